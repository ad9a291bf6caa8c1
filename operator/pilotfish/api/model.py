"""`spec.model`: which trained model, where it lies, and how far it is trusted."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from pilotfish.api import source_rules
from pilotfish.api.base import ApiModel, Duration, SecretName, between
from pilotfish.api.markers import DocumentedEnum, distinct, full_match, marked

SourceUri = Annotated[
    str,
    Field(
        min_length=1,
        max_length=2048,
        json_schema_extra=marked(*source_rules.SOURCE_RULES),
    ),
]
"""A place that a Job reads from."""


class ModelFormat(DocumentedEnum):
    """What a model file or folder is."""

    EXPORTED_PROGRAM = "ExportedProgram", "a .pt2 file as pilotfish.pack or torch.export.save writes it"
    TORCH_SCRIPT = "TorchScript", "a file of torch.jit.save; needs trust: Executable"
    STATE_DICT = "StateDict", "weights of torch.save(model.state_dict()); needs architecture and signature"
    SAFE_TENSORS = "SafeTensors", "weights as .safetensors; needs architecture and signature"
    ONNX = "ONNX", "an .onnx file, or a folder that holds one with its external data"
    HUGGING_FACE = "HuggingFace", "a folder with config.json and .safetensors"
    KERAS = "Keras", "a .keras or .h5 file; with Lambda layers it needs trust: Executable"
    SAVED_MODEL = "SavedModel", "a folder of TensorFlow; needs trust: Executable"
    TFLITE = "TFLite", "a .tflite file"
    TORCH_SERVE_ARCHIVE = "TorchServeArchive", "a .mar archive; needs trust: Executable"


class Trust(DocumentedEnum):
    """Whether the source may hold code that runs when it is opened."""

    DATA_ONLY = "DataOnly", "whatever could run code when opened is refused"
    EXECUTABLE = "Executable", "such code runs inside the Job's sandbox, without network and credentials"


class DataType(DocumentedEnum):
    """Triton's name of an element type."""

    BOOL = "BOOL", "true or false"
    UINT8 = "UINT8", "8 bits unsigned"
    UINT16 = "UINT16", "16 bits unsigned"
    UINT32 = "UINT32", "32 bits unsigned"
    UINT64 = "UINT64", "64 bits unsigned"
    INT8 = "INT8", "8 bits signed"
    INT16 = "INT16", "16 bits signed"
    INT32 = "INT32", "32 bits signed"
    INT64 = "INT64", "64 bits signed"
    FP16 = "FP16", "half precision"
    BF16 = "BF16", "bfloat16"
    FP32 = "FP32", "single precision"
    FP64 = "FP64", "double precision"
    BYTES = "BYTES", "strings"


class Architecture(ApiModel):
    """The code that a file of weights belongs to."""

    model_config = ConfigDict(json_schema_extra=marked(source_rules.ONE_ARCHITECTURE))

    factory: str = Field(default="", max_length=256, json_schema_extra=marked(source_rules.FACTORY_NAME))
    """Dotted name of a model factory in torchvision, timm or transformers. Example: `torchvision.models.resnet18`."""
    file: str | None = Field(
        default=None,
        max_length=512,
        json_schema_extra=marked(
            full_match(
                r"[A-Za-z0-9_./-]+\.py#[A-Za-z_][A-Za-z0-9_]*", "write file.py#function, such as model.py#build"
            ),
        ),
    )
    """A file beside the weights and the function in it that makes the model; needs trust: Executable.
    Example: `model.py#build`."""
    arguments: dict[str, Any] = Field(default_factory=dict, max_length=64)
    """Keyword arguments of the factory. Example: `{num_classes: 10}`."""
    fresh: tuple[Annotated[str, Field(min_length=1, max_length=256)], ...] = Field(default=(), max_length=64)
    """Patterns of parameters that are not taken from the file but start anew, such as the head for other labels; needs
    optimization.fineTune or distill. Example: `["fc.*"]`."""


class SecretReference(ApiModel):
    """A Secret of the same namespace."""

    secret_name: SecretName
    """Name of a Secret in the object's own namespace. Keys are named as the clients' environment variables: for s3
    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL; for gs GOOGLE_APPLICATION_CREDENTIALS_JSON (the text of
    the key file); for az AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_STORAGE_CONNECTION_STRING;
    for hf HF_TOKEN; for oci a pull secret, or OCI_USERNAME and OCI_PASSWORD. Example: `s3-credentials`."""


class Tensor(ApiModel):
    """One input or output of the model."""

    name: str = Field(
        min_length=1,
        max_length=128,
        json_schema_extra=marked(full_match(r"[^\s/]+", "write a tensor name without spaces and '/', such as image")),
    )
    """Name of the tensor. Example: `image`."""
    dtype: DataType
    """Triton's name of the element type."""
    shape: tuple[Annotated[int, Field(ge=-1, le=2**31 - 1)], ...] = Field(max_length=16)
    """Sizes without the batch dimension; -1 is free. Example: `[3, 224, 224]`."""


_DISTINCT_TENSORS = distinct("give every tensor a name of its own", key="name")


class Signature(ApiModel):
    """Inputs and outputs of a model whose file does not say them."""

    inputs: tuple[Tensor, ...] = Field(
        min_length=1, max_length=64, json_schema_extra=marked(_DISTINCT_TENSORS, map_by=["name"])
    )
    """Inputs in the order of the model's arguments. Example: `[{name: image, dtype: FP32, shape: [3, 224, 224]}]`."""
    outputs: tuple[Tensor, ...] = Field(
        default=(), max_length=64, json_schema_extra=marked(_DISTINCT_TENSORS, map_by=["name"])
    )
    """Outputs in the order in which the model returns them; left out, they are read from a run.
    Example: `[{name: logits, dtype: FP32, shape: [10]}]`."""


class Samples(ApiModel):
    """Recorded inputs (and labels) of the model."""

    uri: SourceUri
    """An .npz or .safetensors file with one array per input, first dimension samples; `labels` optional.
    Example: `s3://models/digits/samples.npz`."""
    secret_name: SecretName | None = None
    """Secret with the credentials to read it, in the same namespace. Example: `s3-credentials`."""


class SourceVerification(ApiModel):
    """A signature of OpenSSF model signing: `model.sig` in a folder, `<file>.sig` beside a single file."""

    public_key_secret: SecretName
    """Secret with public keys in PEM (P-256, P-384 or P-521), in the same namespace; mounted into the fetch container
    alone. A signature by any of them counts, so that a key can be replaced. Example: `model-signing`."""


class Refresh(ApiModel):
    """Looking for new bytes at the same uri."""

    interval: Duration = Field(json_schema_extra=between("1m", "168h"))
    """How often to look, 1m to 168h. Example: `1h`."""


class ModelSpec(ApiModel):
    """Which trained model to serve."""

    model_config = ConfigDict(
        json_schema_extra=marked(
            source_rules.WEIGHTS_NEED_ARCHITECTURE,
            source_rules.WEIGHTS_NEED_SIGNATURE,
            source_rules.CODE_NEEDS_TRUST,
            source_rules.TRUSTED_FACTORY,
            source_rules.FILE_NEEDS_TRUST,
            source_rules.REFRESH_OR_PIN,
        )
    )

    uri: SourceUri
    """Where the model lies: a file or a folder behind s3, gs, az, http(s), hf, an artifact `oci://registry/name:tag`,
    or `pvc://claim/path`. Example: `s3://models/digits/v3/`."""
    digest: str | None = Field(
        default=None, max_length=71, pattern=r"^sha256:[0-9a-f]{64}$", json_schema_extra=marked(source_rules.DIGEST)
    )
    """Pin of the source's bytes: sha256 of the file, or of a folder's sorted list of files. Left out, the digest that
    is found is kept in status. Example: `sha256:` and 64 hexadecimal digits."""
    format: ModelFormat | None = None
    """What the bytes are; inferred from them when left out."""
    trust: Trust = Trust.DATA_ONLY
    """Whether the source may hold code that runs when it is opened."""
    architecture: Architecture | None = None
    """The code that a file of weights belongs to; needed for StateDict and SafeTensors.
    Example: `{factory: torchvision.models.resnet18, arguments: {num_classes: 10}}`."""
    credentials: SecretReference | None = None
    """Credentials of the source; mounted into the fetch container alone. Example: `{secretName: s3-credentials}`."""
    signature: Signature | None = None
    """Inputs and outputs. Inferred from ONNX, packed and HuggingFace models; needed when the file does not say it."""
    samples: Samples | None = None
    """Recorded inputs: golden set, calibration and evaluation. Left out, those of a packed model are used, else
    seeded samples are made from the signature. Example: `{uri: "s3://models/digits/samples.npz"}`."""
    verification: SourceVerification | None = None
    """Signature check of the source, before anything opens it: without a signature of every file by a trusted key
    nothing is made of it. Example: `{publicKeySecret: model-signing}`."""
    refresh: Refresh | None = None
    """Look for new bytes at the same uri; other bytes are a new revision through the same gates. Not with digest.
    Example: `{interval: 1h}`."""
