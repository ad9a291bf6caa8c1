"""A model and its second one for plain JSON in a repository, as the operator configures and `install` lays them out."""

import json
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from pilotfish.api.job_input import PREDICT_CONFIG, InstallInput
from pilotfish.api.predict import Predict
from pilotfish.api.report import Backend, ModelSignature
from pilotfish.api.serving import ServingSpec
from pilotfish.optimizer.digest import folder_digest, hash_folder
from pilotfish.optimizer.install import from_claim, install
from pilotfish.resources.config_map import CONFIG_KEY, Told, make_config_map
from support.builders import OWNER, POLICY
from support.triton import TritonServer

REVISION, VARIANT = "bcdfghjk", "onnx-fp32"


def installed(
    folder: Path,
    signature: ModelSignature,
    model: bytes,
    predict: dict[str, Any],
    *,
    told: Told | None = None,
    warmup: bool = False,
) -> Path:
    """The model repository of a pod, for an artifact that holds `model`; the model is called as OWNER is."""
    source = folder / "store" / "artifacts" / "key" / "model_repository" / OWNER.name
    (source / "1").mkdir(parents=True)
    (source / "1" / "model.onnx").write_bytes(model)
    (source / "config.pbtxt").write_text("replaced")
    config = make_config_map(
        OWNER,
        revision=REVISION,
        serving=ServingSpec(predict=Predict.model_validate(predict), warmup=warmup),
        backend=Backend.ONNXRUNTIME,
        signature=signature,
        policy=POLICY,
        told=told or Told(variant=VARIANT),
    )
    mounted = folder / "config"
    mounted.mkdir()
    assert set(config["data"]) == {CONFIG_KEY, PREDICT_CONFIG}
    for name, text in config["data"].items():
        (mounted / name).write_text(text)
    digest = folder_digest(hash_folder(source.parent))
    order = InstallInput(artifact="artifacts/key", digest=digest, model=OWNER.name)
    models = folder / "models"
    models.mkdir()
    install(order, source=from_claim(order, folder / "store"), models=models, config=mounted)
    shutil.rmtree(folder / "store")
    return models


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
