"""Filling the in-cluster model store from outside, and recording what a model answers."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
import numpy as np
from botocore.config import Config

from testbed.kubectl import Kubectl
from testbed.manifests import STORE_PORT

BUCKET = "models"


def upload(kubectl: Kubectl, source: Path, key: str, *, namespace: str) -> str:
    """Put a file or a folder under `s3://models/<key>`; returns that uri."""
    with kubectl.port_forward("service/store", STORE_PORT, namespace=namespace) as port:
        client = _client(port)
        client.create_bucket(Bucket=BUCKET)
        if source.is_file():
            client.upload_file(str(source), BUCKET, key)
            return f"s3://{BUCKET}/{key}"
        for file in sorted(path for path in source.rglob("*") if path.is_file()):
            client.upload_file(str(file), BUCKET, f"{key}/{file.relative_to(source)}")
    return f"s3://{BUCKET}/{key}/"


def pack_cases(inputs: Mapping[str, np.ndarray], answers: Mapping[str, Mapping[str, np.ndarray]]) -> bytes:
    """The cases.npz that client.py reads: inputs, and per version of the model the outputs it should give."""
    arrays = {f"input:{name}": value for name, value in inputs.items()}
    for version, outputs in answers.items():
        arrays.update({f"expected:{version}:{name}": value for name, value in outputs.items()})
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _client(port: int) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        region_name="us-east-1",
        config=Config(retries={"max_attempts": 5}),
    )
