"""`spec.model`: which trained model, where it lies, and how far it is trusted."""

from enum import StrEnum
from typing import Any

from pydantic import Field

from pilotfish.api.base import ApiModel, Duration


class ModelFormat(StrEnum):
    """What a model file or folder is."""

    EXPORTED_PROGRAM = "ExportedProgram"
    TORCH_SCRIPT = "TorchScript"
    STATE_DICT = "StateDict"
    SAFE_TENSORS = "SafeTensors"
    ONNX = "ONNX"
    HUGGING_FACE = "HuggingFace"
    KERAS = "Keras"
    SAVED_MODEL = "SavedModel"
    TFLITE = "TFLite"
    TORCH_SERVE_ARCHIVE = "TorchServeArchive"


class Trust(StrEnum):
    """Whether the source may hold code that runs when it is opened."""

    DATA_ONLY = "DataOnly"
    EXECUTABLE = "Executable"


class Architecture(ApiModel):
    """The code that a file of weights belongs to."""

    factory: str = Field(max_length=256)
    """Dotted name of a model factory in torchvision, timm or transformers. Example: `torchvision.models.resnet18`."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the factory. Example: `{num_classes: 10}`."""


class SecretReference(ApiModel):
    """A Secret of the same namespace."""

    secret_name: str = Field(min_length=1, max_length=253)
    """Name of a Secret in the object's own namespace."""


class Tensor(ApiModel):
    """One input or output of the model."""

    name: str = Field(min_length=1, max_length=128)
    """Name of the tensor. Example: `image`."""
    dtype: str = Field(max_length=16)
    """Triton's name of the element type: FP32, FP16, INT64, INT32, UINT8, BOOL, …"""
    shape: tuple[int, ...] = Field(max_length=16)
    """Sizes without the batch dimension; -1 is free. Example: `[3, 224, 224]`."""


class Signature(ApiModel):
    """Inputs and outputs of a model whose file does not say them."""

    inputs: tuple[Tensor, ...] = Field(min_length=1, max_length=64)
    """Inputs in the order of the model's arguments."""
    outputs: tuple[Tensor, ...] = Field(default=(), max_length=64)
    """Outputs in the order in which the model returns them; left out, they are read from a run."""


class Samples(ApiModel):
    """Recorded inputs (and labels) of the model."""

    uri: str = Field(min_length=1, max_length=2048)
    """An .npz or .safetensors file with one array per input, first dimension samples; `labels` optional."""
    secret_name: str | None = Field(default=None, max_length=253)
    """Secret with the credentials to read it, in the same namespace."""


class SourceVerification(ApiModel):
    """Signature check of the source."""

    public_key_secret: str = Field(max_length=253)
    """Secret with the public key."""


class Refresh(ApiModel):
    """Looking for new bytes at the same uri."""

    interval: Duration
    """How often to look. Example: `1h`."""


class ModelSpec(ApiModel):
    """Which trained model to serve."""

    uri: str = Field(min_length=1, max_length=2048)
    """Where the model lies: a file or a folder behind s3, gs, az, http(s), hf, oci, or `pvc://claim/path`."""
    digest: str | None = Field(default=None, pattern=r"^sha256:[0-9a-f]{64}$")
    """Pin of the source's bytes. Left out, the digest that is found is kept in status."""
    format: ModelFormat | None = None
    """Inferred from the bytes when left out."""
    trust: Trust = Trust.DATA_ONLY
    """DataOnly refuses everything that could run code when opened; Executable allows it inside the Job's sandbox."""
    architecture: Architecture | None = None
    """Needed for StateDict and SafeTensors."""
    credentials: SecretReference | None = None
    """Credentials of the source; mounted into the fetch container alone."""
    signature: Signature | None = None
    """Inferred from ONNX, packed and HuggingFace models; needed when the file does not say it."""
    samples: Samples | None = None
    """Golden set, calibration and evaluation. Left out, seeded samples are made from the signature."""
    verification: SourceVerification | None = None
    """Optional signature check of the source."""
    refresh: Refresh | None = None
    """Look for new bytes at the same uri; a new digest is a new revision."""
