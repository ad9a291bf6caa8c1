"""Lay out the tritonserver of the nvidia-pytriton wheel as NVIDIA's images have it: `layout.py TARGET`.

Runs once, while the image is built. The Python backend is copied, since the server refuses a library that a link leads
out of its backend folder to; the stub is the one for the Python that runs here.
"""

import shutil
import sys
import sysconfig
from pathlib import Path


def lay_out(packages: Path, target: Path) -> None:
    """Fill `target` with bin/, lib/ and backends/python from the wheel installed in `packages`."""
    server = packages / "pytriton" / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        known = ", ".join(sorted(folder.name for folder in stub.parents[1].iterdir()))
        sys.exit(f"tritonserver has no stub for Python {version}; build on a base image with one of {known}")
    (target / "bin").mkdir(parents=True)
    (target / "bin" / "tritonserver").symlink_to(server / "bin" / "tritonserver")
    (target / "lib").symlink_to(packages / "nvidia_pytriton.libs")
    shutil.copytree(server / "backends" / "python", target / "backends" / "python")
    shutil.copy2(stub, target / "backends" / "python")


if __name__ == "__main__":
    lay_out(Path(sysconfig.get_path("purelib")), Path(sys.argv[1]))
