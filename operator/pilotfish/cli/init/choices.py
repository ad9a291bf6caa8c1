"""From what was seen of a model to the values of its first manifest, each with its reason. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pilotfish.api.model import ModelFormat
from pilotfish.api.spec import ModelDeploymentSpec

if TYPE_CHECKING:
    from pilotfish.cli.init.look import Seen

KIB, MIB, GIB = 1024, 1024**2, 1024**3
GPU_FROM = 256 * MIB
"""Size from which a model is thought to want a GPU."""
MAX_BATCH = 8
_WEIGHTS = {ModelFormat.STATE_DICT, ModelFormat.SAFE_TENSORS}
_NEEDS_INPUTS = {*_WEIGHTS, ModelFormat.TORCH_SCRIPT}
_CODE = {ModelFormat.TORCH_SCRIPT, ModelFormat.SAVED_MODEL, ModelFormat.TORCH_SERVE_ARCHIVE}


class Undecided(Exception):
    """Only the user can say it; the sentence tells how."""


@dataclass(frozen=True, slots=True)
class Because:
    """A value and why it is so."""

    value: Any
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What the user said on the command line."""

    name: str
    uri: str
    uri_is_proposed: bool = False
    secret: str | None = None
    digest: str | None = None
    gpus: int | None = None
    factory: str | None = None
    inputs: Sequence[dict[str, Any]] = ()
    trusts_code: bool = False


def choose(seen: "Seen", said: Said) -> dict[str, Any]:
    """`spec` as a tree whose leaves are Because. Raises Undecided."""
    _check_is_decided(seen, said)
    gpus = said.gpus if said.gpus is not None else int(seen.size >= GPU_FROM)
    return {
        "model": _model(seen, said),
        "optimization": _optimization(seen, gpus),
        "storage": {"size": _storage(seen)},
        "serving": _serving(seen, gpus, asked=said.gpus is not None),
        "rollout": _rollout(),
    }


def _check_is_decided(seen: "Seen", said: Said) -> None:
    kind = seen.format.value
    if seen.format in _CODE and not said.trusts_code:
        raise Undecided(
            f"the model is {kind}, which holds code that runs when it is opened; give --trust-code if you trust where "
            "it comes from, or save it anew with pilotfish.pack or as ONNX"
        )
    if seen.format in _WEIGHTS and said.factory is None:
        raise Undecided(
            f"the model is {kind}, which holds weights only: name the code that they belong to, such as "
            "--factory torchvision.models.resnet18, or save the whole model with pilotfish.pack"
        )
    if seen.format in _NEEDS_INPUTS and not said.inputs:
        raise Undecided(f"{kind} does not say what goes in: give each input, such as --tensor image:FP32:3x224x224")


def _model(seen: "Seen", said: Said) -> dict[str, Any]:
    proposed = "A proposal: upload the model there, or write where it lies."
    model: dict[str, Any] = {
        "uri": Because(said.uri, proposed if said.uri_is_proposed else "Where the cluster reads the model."),
        "format": Because(seen.format.value, "Found in the bytes. It says which image the optimization Job runs."),
    }
    if said.digest is not None:
        model["digest"] = Because(
            said.digest, "The bytes that were looked at. Any others are refused; remove to allow."
        )
    if said.secret is not None:
        model["credentials"] = Because(
            {"secretName": said.secret}, "A Secret in the same namespace, for the fetch alone."
        )
    if seen.format in _CODE:
        model["trust"] = Because("Executable", "Opening it runs code that came with it, inside the Job's sandbox.")
    if said.factory is not None:
        model["architecture"] = Because({"factory": said.factory}, "The code that these weights belong to.")
    if said.inputs:
        why = "The file does not say it. Shapes are those of one sample; outputs are read from a run."
        model["signature"] = Because({"inputs": list(said.inputs)}, why)
    return model


def _optimization(seen: "Seen", gpus: int) -> dict[str, Any]:
    if gpus:
        precisions = Because(
            ["FP32", "FP16"], "Half precision is tried for the GPU; it wins only within the tolerance."
        )
    else:
        precisions = Because(["FP32"], "On a CPU. INT8 is worth a try once model.samples holds real inputs.")
    sizes = [1, MAX_BATCH] if _may_batch(seen) else [1]
    light = seen.format is ModelFormat.ONNX
    least = 2 * GIB if light else 4 * GIB
    memory = quantity(max(least, GIB + 8 * seen.size))
    library = "ONNX Runtime" if light else "the framework"
    return {
        "precisions": precisions,
        "batchSizes": Because(sizes, "What is measured; the first decides."),
        "resources": Because(
            {"memory": memory}, f"Of the Job: {library}, the original and several candidates at once."
        ),
    }


def _storage(seen: "Seen") -> Because:
    kept = int(ModelDeploymentSpec.model_fields["revision_history_limit"].default)
    size = quantity(max(GIB, GIB // 2 + 2 * seen.size * (kept + 2)))
    why = (
        f"Source and artifact of {human(seen.size)} each, for {kept} kept revisions, the one that serves and the next."
    )
    return Because(size, why)


def _serving(seen: "Seen", gpus: int, *, asked: bool) -> dict[str, Any]:
    said = f"At {human(seen.size)} a GPU pays off." if gpus else f"{human(seen.size)} are served well by a CPU."
    least = GIB if seen.format is ModelFormat.ONNX else 2 * GIB
    memory = quantity(max(least, GIB // 2 + 3 * seen.size))
    batching = (
        Because({"maxBatchSize": MAX_BATCH}, "Triton puts requests that wait together into one batch of up to so many.")
        if _may_batch(seen)
        else Because({"maxBatchSize": 0}, "The model has no free batch dimension.")
    )
    return {
        "replicas": Because(1, "Raise it when pilotfish bench says that one pod is not enough."),
        "gpus": Because({"count": gpus}, "As asked for." if asked else said),
        "resources": Because({"memory": memory}, "Of each pod: Triton, and the weights three times while they load."),
        "batching": batching,
    }


def _rollout() -> dict[str, Any]:
    return {
        "strategy": Because("Canary", "A new revision gets a share of the requests before it gets all."),
        "steps": Because(
            [{"weight": 50, "hold": "5m"}], "With one pod of each revision half is the share that pods can give."
        ),
        "analysis": Because(
            {"minRequests": 50, "checks": {"errorRate": {"max": "0.01"}}},
            "Above one failed request in a hundred it goes back by itself.",
        ),
    }


def _may_batch(seen: "Seen") -> bool:
    """What only the Job can tell is taken as batched; it serves without where the model cannot."""
    return seen.signature is None or seen.signature.batched


def quantity(size: int) -> str:
    """Bytes rounded up to a round quantity of Kubernetes: quarters of a Gi below 2Gi, whole ones above."""
    if size < 2 * GIB:
        quarters = -(-size // (GIB // 4))
        return f"{quarters // 4}Gi" if quarters % 4 == 0 else f"{quarters * 256}Mi"
    return f"{-(-size // GIB)}Gi"


def human(size: int) -> str:
    """Bytes for people."""
    for unit, scale in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} bytes"
