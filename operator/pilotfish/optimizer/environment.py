"""Where figures come from: CPU, threads, versions."""

import os
import platform
from importlib import metadata
from pathlib import Path

from pilotfish.api.report import Environment

PACKAGE = "pilotfish"
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16")
_PACKAGES = (
    PACKAGE,
    *("numpy", "onnx", "onnxruntime", "onnxscript", "openvino", "nncf"),
    *("torch", "torchvision", "transformers", "timm", "captum"),
    *("tensorflow-cpu", "keras", "tf2onnx", "ai-edge-litert"),
)


def describe_environment(threads: int) -> Environment:
    """This machine and this image."""
    fields = _cpuinfo()
    flags = set(fields.get("flags", "").split())
    return Environment(
        cpu=fields.get("model name", platform.machine()),
        cpu_flags=tuple(f for f in _FLAGS if f in flags),
        cpu_count=os.cpu_count() or 1,
        threads=threads,
        python=platform.python_version(),
        packages={name: version for name in _PACKAGES if (version := _version(name))},
    )


def needs_narrow_weights() -> bool:
    """Whether this CPU adds products of 8-bit numbers in 16 bits, where they saturate: x86 without VNNI."""
    flags = set(_cpuinfo().get("flags", "").split())
    return platform.machine() == "x86_64" and not flags & {"avx512_vnni", "avx_vnni"}


def has_bfloat16() -> bool:
    """Whether this CPU multiplies in bfloat16: AVX512_BF16 or AMX."""
    return bool(set(_cpuinfo().get("flags", "").split()) & {"avx512_bf16", "amx_bf16"})


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpuinfo() -> dict[str, str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0].splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}
