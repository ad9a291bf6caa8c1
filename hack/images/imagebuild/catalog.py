"""Which images there are and what each is made from. Pure but for reading files to name their content."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
REPOSITORY = "pilotfish"
KEY_LABEL = "dev.pilotfish.content"
_PROJECT = ("pyproject.toml", "README.md", "operator", "requirements/build.txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image: the folder of its Dockerfile, the target in it, and every file or folder that can change it."""

    name: str
    folder: str
    sources: tuple[str, ...]

    @property
    def dockerfile(self) -> str:
        """Path of the Dockerfile, from the repository's root."""
        return f"images/{self.folder}/Dockerfile"

    def reference(self, tag: str) -> str:
        """The name that pods use."""
        return f"{REPOSITORY}/{self.name}:{tag}"


# The quick ones first: whoever waits for the operator does not wait for PyTorch.
IMAGES = (
    Image(name="operator", folder="operator", sources=(*_PROJECT, "requirements/operator.txt")),
    Image(name="optimizer", folder="optimizer", sources=(*_PROJECT, "requirements/optimizer.txt")),
    Image(
        name="triton-cpu",
        folder="triton-cpu",
        sources=("images/triton-cpu", "requirements/triton-cpu.txt"),
    ),
    Image(name="testbed", folder="testbed", sources=("requirements/testbed.txt",)),
    Image(
        name="optimizer-torch",
        folder="optimizer",
        sources=(*_PROJECT, "requirements/torch.txt", "requirements/optimizer-torch.txt"),
    ),
    Image(name="optimizer-tf", folder="optimizer", sources=(*_PROJECT, "requirements/optimizer-tf.txt")),
    Image(
        name="triton-cpu-torch",
        folder="triton-cpu",
        sources=("images/triton-cpu", "requirements/torch.txt", "requirements/triton-cpu.txt"),
    ),
)


def select(names: list[str]) -> tuple[Image, ...]:
    """The images asked for, in build order; `all` or nothing means every one.

    Raises:
        ValueError: a name that no image has.
    """
    known = [image.name for image in IMAGES]
    unknown = [name for name in names if name not in {*known, "all"}]
    if unknown:
        raise ValueError(f"unknown image {unknown[0]!r}; known: {', '.join(known)}, all")
    if not names or "all" in names:
        return IMAGES
    return tuple(image for image in IMAGES if image.name in names)


def content_key(image: Image, *, base: str, arguments: Mapping[str, str], root: Path = ROOT) -> str:
    """Names everything that goes into an image: 16 hex digits that change when, and only when, one of these does.

    `base` identifies the base image, `arguments` are the build arguments, those that name a file with its content. File
    names, contents and the execute bit
    count; times, owners and what the .dockerignore leaves out do not.
    """
    digest = hashlib.sha256(f"{image.name}\n{base}\n".encode())
    for name, value in sorted(arguments.items()):
        named = root / value
        content = hashlib.sha256(named.read_bytes()).hexdigest() if value and named.is_file() else ""
        digest.update(f"{name}={value} {content}\n".encode())
    for path in _files(image, root):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(root)} {path.stat().st_mode & 0o100:o} {content}\n".encode())
    return digest.hexdigest()[:16]


def _files(image: Image, root: Path) -> list[Path]:
    found = {root / image.dockerfile}
    for source in image.sources:
        path = root / source
        found |= {path} if path.is_file() else {file for file in path.rglob("*") if file.is_file()}
    return sorted(path for path in found if "__pycache__" not in path.parts)
