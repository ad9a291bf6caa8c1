"""What the user says about inputs and outputs against what the model shows."""

from dataclasses import replace

from pilotfish.api.model import ModelSpec, Tensor
from pilotfish.api.report import ModelSignature, TensorSpec
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.model import LoadedModel


def apply_declared(model: LoadedModel, spec: ModelSpec) -> LoadedModel:
    """The model with the sizes that spec.model.signature fixes; raises SignatureMismatch where they contradict it."""
    if spec.signature is None:
        return model
    found = model.signature
    inputs = _merge("input", found.inputs, spec.signature.inputs)
    outputs = _merge("output", found.outputs, spec.signature.outputs) if spec.signature.outputs else found.outputs
    return replace(model, signature=ModelSignature(inputs=inputs, outputs=outputs, batched=found.batched))


def _merge(kind: str, found: tuple[TensorSpec, ...], said: tuple[Tensor, ...]) -> tuple[TensorSpec, ...]:
    names = {t.name: t for t in said}
    if set(names) != {t.name for t in found}:
        raise OptimizerError(
            Reason.SIGNATURE_MISMATCH,
            f"spec.model.signature names the {kind}s {', '.join(names)}, but the model has "
            f"{', '.join(t.name for t in found)}; use the model's names",
        )
    return tuple(_fit(kind, t, names[t.name]) for t in found)


def _fit(kind: str, found: TensorSpec, said: Tensor) -> TensorSpec:
    fits = len(said.shape) == len(found.shape) and all(
        s in {-1, f} or f == -1 for s, f in zip(said.shape, found.shape, strict=True)
    )
    if said.dtype != found.dtype or not fits:
        raise OptimizerError(
            Reason.SIGNATURE_MISMATCH,
            f"spec.model.signature gives {kind} {said.name!r} as {said.dtype} {list(said.shape)}, but the model has "
            f"{found.dtype} {list(found.shape)} (without the batch dimension); correct it or leave the signature out",
        )
    shape = tuple(f if s == -1 else s for s, f in zip(said.shape, found.shape, strict=True))
    free = -1 in shape
    return found.model_copy(update={"shape": shape, "example": found.example if free else None})
