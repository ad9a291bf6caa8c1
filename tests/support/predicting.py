"""A model and its second one for plain JSON in a repository, as the operator configures and `install` lays them out."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from pilotfish.api.job_input import INSTALL_ENV, PREDICT_CONFIG
from pilotfish.api.predict import Predict
from pilotfish.api.predict_text import TOKENIZER
from pilotfish.api.report import Backend, ModelSignature
from pilotfish.api.serving import ServingSpec
from pilotfish.optimizer import job
from pilotfish.optimizer.digest import folder_digest, hash_folder
from pilotfish.resources.config_map import CONFIG_KEY, Told, make_config_map
from pilotfish.resources.deployment import ServingIntent, make_deployment
from support.builders import OWNER, POLICY, make_artifact
from support.triton import TritonServer

REVISION, VARIANT = "bcdfghjk", "onnx-fp32"


def installed(
    folder: Path,
    signature: ModelSignature,
    model: bytes,
    predict: dict[str, Any],
    *,
    golden: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] | None = None,
    tokenizer: bytes | None = None,
) -> Path:
    """The model repository of a pod, for an artifact that holds `model`; the model is called as OWNER is.

    `golden` are recorded inputs and the original's answers, `tokenizer` the content of tokenizer.json.
    """
    artifact = folder / "store" / "artifacts" / "key"
    repository = artifact / "model_repository"
    (repository / OWNER.name / "1").mkdir(parents=True)
    (repository / OWNER.name / "1" / "model.onnx").write_bytes(model)
    (repository / OWNER.name / "config.pbtxt").write_text("replaced")
    if tokenizer is not None:
        (repository / OWNER.name / TOKENIZER).write_bytes(tokenizer)
    if golden is not None:
        (artifact / "golden").mkdir()
        for arrays, name in zip(golden, ("inputs", "outputs"), strict=True):
            save_file(arrays, artifact / "golden" / f"{name}.safetensors")
    serving = ServingSpec(predict=Predict.model_validate(predict), warmup=False)
    record = make_artifact("key").model_copy(update={"digest": folder_digest(hash_folder(repository))})
    if golden is not None:
        record = record.model_copy(update={"golden": folder_digest(hash_folder(artifact / "golden"))})
    config = make_config_map(
        OWNER,
        revision=REVISION,
        serving=serving,
        backend=Backend.ONNXRUNTIME,
        signature=signature,
        policy=POLICY,
        told=Told(variant=VARIANT, samples_given=golden is not None, tokenizer=tokenizer is not None),
    )
    intent = ServingIntent(serving=serving, revision=REVISION, artifact=record, samples_given=golden is not None)
    _install(folder, make_deployment(OWNER, intent, POLICY), config["data"])
    return folder / "models"


def _install(folder: Path, deployment: dict[str, Any], files: dict[str, str]) -> None:
    """As the pod's init container: the same order, the same command."""
    assert set(files) == {CONFIG_KEY, PREDICT_CONFIG}
    (folder / "config").mkdir()
    for name, text in files.items():
        (folder / "config" / name).write_text(text)
    (folder / "models").mkdir()
    (init,) = deployment["spec"]["template"]["spec"]["initContainers"]
    told = {one["name"]: one["value"] for one in init["env"]}
    mounts = (f"--{name}={folder / name}" for name in ("store", "config", "models"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(INSTALL_ENV, told[INSTALL_ENV])
        assert job.main(["install", *mounts, f"--termination-log={folder / 'termination-log'}"]) == 0


def predict_url(server: TritonServer) -> str:
    """Where plain JSON is answered."""
    return f"{server.http_url}/v2/models/{OWNER.name}-predict/generate"


def ask(server: TritonServer, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Status and JSON of an answer."""
    request = urllib.request.Request(predict_url(server), data=json.dumps(body).encode(), method="POST")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())
