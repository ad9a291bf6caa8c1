"""Rules about places and code that a user names: uris, model factories. Pure; see markers.py for how they are read."""

import re

from pilotfish.api.markers import Rule, RuleReason, full_match, no_match, quoted

_SIGNED_KEYS = (
    "x-amz-[a-z-]+|x-goog-[a-z-]+|awsaccesskeyid|signature|sig|token|access_token|auth|api_?key|key|password|secret"
)

SCHEME = full_match(
    r"(s3|gs|az|https?|hf|oci|pvc)://[^/\s][^\s]*",
    "write a uri without spaces that begins with s3://, gs://, az://, https://, http://, hf://, oci:// or "
    "pvc://claim/path",
)
# A server may read %2f and %5c as it reads what they stand for.
NO_PARENT = no_match(
    r"(?i)(^|[/\\]|%2f|%5c)(\.|%2e){2}([/\\?#]|%2f|%5c|$)",
    "write the path without '..': name the folder that holds the model itself",
)
# Forbidden, because the API server repeats an invalid value in its answer and in its audit log.
NO_PASSWORD = no_match(
    r"^(https?://[^/?#]*@|[a-z0-9]+://[^/?#]*:[^/?#]*@)",
    "take user name, password or token out of the uri; put them into a Secret and name it in the secretName beside it",
    reason=RuleReason.FORBIDDEN,
)
NO_SIGNED_QUERY = no_match(
    rf"(?i)[?&]({_SIGNED_KEYS})=",
    "take the signature, key or token out of the uri's query; put credentials into a Secret and name it in secretName",
    reason=RuleReason.FORBIDDEN,
)
_CLAIM = r"pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/.+"
CLAIM = Rule(
    cel=f"!self.startsWith('pvc://') || self.matches({quoted(f'^{_CLAIM}$')})",
    message="write pvc://claim/path: a PersistentVolumeClaim of the same namespace, then the path inside it",
    holds=lambda uri: not uri.startswith("pvc://") or re.fullmatch(_CLAIM, uri) is not None,
)

_ARTIFACT = (
    r"oci://([A-Za-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]+)?/[a-z0-9]+([._/-]+[a-z0-9]+)*"
    r"(:[A-Za-z0-9_][A-Za-z0-9._-]*)?(@sha256:[0-9a-f]{64})?"
)
ARTIFACT = Rule(
    cel=f"!self.startsWith('oci://') || self.matches({quoted(f'^{_ARTIFACT}$')})",
    message="write oci://registry/repository:tag or oci://registry/repository@sha256:<64 hexadecimal digits>",
    holds=lambda uri: not uri.startswith("oci://") or re.fullmatch(_ARTIFACT, uri) is not None,
)

SOURCE_RULES = (SCHEME, NO_PARENT, NO_PASSWORD, NO_SIGNED_QUERY, CLAIM, ARTIFACT)
"""Every uri that a Job opens."""

FACTORY_NAME = full_match(
    r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+",
    "write the dotted name of a function such as torchvision.models.resnet18",
)
DIGEST = full_match(
    "sha256:[0-9a-f]{64}", "write sha256: and 64 lower-case hexadecimal digits, as sha256sum prints them"
)

_KNOWN_LIBRARIES = ("torchvision.", "timm.", "transformers.")
_WEIGHTS = frozenset({"StateDict", "SafeTensors"})
_CODE = frozenset({"TorchScript", "SavedModel", "TorchServeArchive"})
TRUSTED_FACTORY = Rule(
    cel="!has(self.architecture) || !has(self.architecture.factory) || self.trust == 'Executable' || "
    + " || ".join(f"self.architecture.factory.startsWith('{library}')" for library in _KNOWN_LIBRARIES),
    message="use a factory of torchvision, timm or transformers, or set trust: Executable to run code of your own",
    holds=lambda model: (
        model.get("trust") == "Executable"
        or model.get("architecture", {}).get("factory", "torchvision.").startswith(_KNOWN_LIBRARIES)
    ),
    field_path=".architecture.factory",
)
FILE_NEEDS_TRUST = Rule(
    cel="!has(self.architecture) || !has(self.architecture.file) || self.trust == 'Executable'",
    message="set trust: Executable to run the code in architecture.file, or use a factory of an installed library",
    holds=lambda model: "file" not in model.get("architecture", {}) or model.get("trust") == "Executable",
    field_path=".architecture.file",
)
REFRESH_OR_PIN = Rule(
    cel="!has(self.refresh) || !has(self.digest)",
    message="a pinned source has no new bytes to look for: remove digest, or remove refresh",
    holds=lambda model: "refresh" not in model or "digest" not in model,
    field_path=".refresh",
)
WEIGHTS_NEED_ARCHITECTURE = Rule(
    cel="!has(self.format) || !(self.format in ['StateDict', 'SafeTensors']) || has(self.architecture)",
    message="StateDict and SafeTensors hold weights only: set architecture.factory, like torchvision.models.resnet18",
    holds=lambda model: model.get("format") not in _WEIGHTS or "architecture" in model,
    field_path=".architecture",
    reason=RuleReason.REQUIRED,
)
WEIGHTS_NEED_SIGNATURE = Rule(
    cel="!has(self.format) || !(self.format in ['StateDict', 'SafeTensors']) || has(self.signature)",
    message="StateDict and SafeTensors do not say their inputs: set signature.inputs with name, dtype and shape",
    holds=lambda model: model.get("format") not in _WEIGHTS or "signature" in model,
    field_path=".signature",
    reason=RuleReason.REQUIRED,
)
CODE_NEEDS_TRUST = Rule(
    cel="!has(self.format) || !(self.format in ['TorchScript', 'SavedModel', 'TorchServeArchive']) "
    "|| self.trust == 'Executable'",
    message="TorchScript, SavedModel and TorchServeArchive run code when opened: set trust: Executable if you trust "
    "whoever wrote the file, or convert it to ONNX",
    holds=lambda model: model.get("format") not in _CODE or model.get("trust") == "Executable",
    field_path=".trust",
)
ONE_ARCHITECTURE = Rule(
    cel="has(self.factory) != has(self.file)",
    message="set exactly one of factory (a function of an installed library) and file (code beside the weights)",
    holds=lambda architecture: bool(architecture.get("factory")) != bool(architecture.get("file")),
)
