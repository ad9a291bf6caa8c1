"""The golden set: recorded samples checked against the signature, or seeded ones made from it."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pilotfish.api.report import ModelSignature, TensorSpec
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.archives import check_zip
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.generate import SEED, fill
from pilotfish.optimizer.model import Samples
from pilotfish.optimizer.shapes import with_batch
from pilotfish.optimizer.tensors import TRITON_TO_NUMPY, Array

COUNT = 32
MAX_SAMPLES = 256
_LABELS = "labels"


def generate_samples(signature: ModelSignature, *, bounds: Mapping[str, int], count: int = COUNT) -> Samples:
    """`count` seeded samples."""
    shapes = {t.name: (count, *with_batch(t, batch=None)) for t in signature.inputs}
    return Samples(inputs=fill(signature, shapes, bounds=bounds, seed=SEED), labels=None, given=False, seed=SEED)


def read_samples(path: Path) -> dict[str, Array]:
    """Arrays of an .npz or .safetensors file (or of the single one in a folder); raises SamplesInvalid."""
    if path.is_dir():
        files = [p for p in sorted(path.iterdir()) if p.suffix in {".npz", ".safetensors"}]
        if len(files) != 1:
            raise _invalid(
                f"the samples folder holds {len(files)} .npz or .safetensors files; give the uri of one file"
            )
        return read_samples(files[0])
    with path.open("rb") as stream:
        head = stream.read(4)
    try:
        return _read_npz(path) if head.startswith(b"PK\x03\x04") else _read_safetensors(path)
    except OptimizerError as error:
        raise _invalid(error.message) from error
    except Exception as error:
        raise _invalid(f"{path.name} is no readable .npz or .safetensors file ({error}); write it again") from error


def check_samples(
    arrays: Mapping[str, Array], signature: ModelSignature, *, where: str, most: int | None = MAX_SAMPLES
) -> Samples:
    """The arrays as a golden set of at most 256 samples, evenly spread over what was recorded.

    Raises:
        OptimizerError: SamplesInvalid with the array that does not fit.
    """
    names = [t.name for t in signature.inputs]
    extra = sorted(set(arrays) - {*names, _LABELS})
    missing = [name for name in names if name not in arrays]
    if missing or extra:
        what = f"lack {missing[0]!r}" if missing else f"hold {extra[0]!r}, which is no input"
        raise _invalid(f"{where} {what}; give one array per input: {', '.join(names)} (and `labels` if known)")
    inputs = {t.name: _fit(arrays[t.name], t, where) for t in signature.inputs}
    counts = {len(a) for a in arrays.values()}
    if len(counts) != 1 or 0 in counts:
        sizes = ", ".join(f"{n} {len(a)}" for n, a in arrays.items())
        raise _invalid(
            f"{where} differ in their number of samples ({sizes}); every array's first dimension is the sample"
        )
    labels, count = arrays.get(_LABELS), counts.pop()
    if most is None or count <= most:
        return Samples(inputs=inputs, labels=labels, given=True, seed=SEED)
    chosen = np.linspace(0, count - 1, most).round().astype(np.int64)  # recorded data is often sorted by class
    kept = {name: array[chosen] for name, array in inputs.items()}
    return Samples(inputs=kept, labels=None if labels is None else labels[chosen], given=True, seed=SEED)


def _fit(array: Array, spec: TensorSpec, where: str) -> Array:
    wanted = TRITON_TO_NUMPY[spec.dtype]
    own = tuple(array.shape[1:])
    fits = array.ndim >= 1 and len(own) == len(spec.shape)
    if not fits or any(s not in {-1, o} for s, o in zip(spec.shape, own, strict=True)):
        raise _invalid(
            f"{where}: {spec.name!r} has shape {list(array.shape)}, but the model takes [samples, "
            f"{', '.join(map(str, spec.shape))}]; reshape it so"
        )
    same_kind = wanted.kind == array.dtype.kind or {wanted.kind, array.dtype.kind} <= {"i", "u"}
    if not same_kind:
        raise _invalid(f"{where}: {spec.name!r} is {array.dtype}, but the model takes {spec.dtype}; convert it")
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit is named below
        cast = np.ascontiguousarray(array.astype(wanted))
    if wanted.kind in "iu" and not np.array_equal(cast, array):
        raise _invalid(f"{where}: {spec.name!r} holds values that do not fit {spec.dtype}; correct them")
    if wanted.kind == "f" and not np.isfinite(cast).all():
        raise _invalid(f"{where}: {spec.name!r} holds NaN or infinity; remove those samples")
    return cast


def _read_npz(path: Path) -> dict[str, Array]:
    check_zip(path)
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            with archive.open(info) as stream:
                version = np.lib.format.read_magic(stream)
                reader = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}[version[0]]
                shape, _, dtype = reader(stream)
            if dtype.hasobject or int(np.prod(shape, dtype=np.float64)) * dtype.itemsize > info.file_size:
                raise _invalid(
                    f"{path.name}: {info.filename} holds objects or declares more than it holds; save plain arrays"
                )
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _read_safetensors(path: Path) -> dict[str, Array]:
    from safetensors.numpy import load_file

    return dict(load_file(path))


def _invalid(message: str) -> OptimizerError:
    return OptimizerError(Reason.SAMPLES_INVALID, message)
