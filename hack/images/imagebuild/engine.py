"""The two kinds of builder: an engine that answers (Docker, Podman), else buildah on a base image of our own."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from imagebuild import base
from imagebuild.catalog import KEY_LABEL, ROOT, Image
from imagebuild.machine import PipSettings
from imagebuild.progress import BuildError, run, say

ENGINE_BASE = "docker.io/library/python:3.12-slim-bookworm"
DEBIAN_PACKAGES = {"buildah": "buildah", "debootstrap": "debootstrap"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One image to build."""

    image: Image
    tag: str
    key: str
    arguments: Mapping[str, str]
    pip: PipSettings
    scratch: Path
    """A folder for the secrets, gone after the build."""
    logs: Path

    def flags(self) -> list[str]:
        """What all builders take: target, arguments, secrets, label, name."""
        config = self.scratch / "pip.conf"
        config.write_text(self.pip.text, encoding="utf-8")
        secrets = [f"--secret=id=pip-config,src={config}"]
        if self.pip.bundle is not None:
            secrets.append(f"--secret=id=ca-bundle,src={self.pip.bundle}")
        return [
            f"--file={self.image.dockerfile}",
            f"--target={self.image.name}",
            *(f"--build-arg={name}={value}" for name, value in sorted(self.arguments.items())),
            *secrets,
            f"--label={KEY_LABEL}={self.key}",
            f"--tag={self.image.reference(self.tag)}",
        ]


class Builder(Protocol):
    """Builds images and remembers by a label what they were built from."""

    @property
    def name(self) -> str:
        """The program's name."""

    @property
    def base(self) -> str:
        """The base image when none is asked for."""

    def prepare(self) -> None:
        """Make everything ready that a build needs, the base image included."""

    def key_of(self, reference: str) -> str | None:
        """The content key of an image that is there."""

    def build(self, order: Order) -> float:
        """Build; returns the seconds it took."""


@dataclass(frozen=True, slots=True)
class Engine:
    """Docker or Podman; the base image comes from a registry."""

    name: str
    base: str = ENGINE_BASE

    def prepare(self) -> None:
        """Nothing: the engine pulls its base itself."""

    def key_of(self, reference: str) -> str | None:
        """The content key of an image that is there."""
        found = _json(self.name, "image", "inspect", reference)
        return _label(found[0].get("Config")) if found else None

    def build(self, order: Order) -> float:
        """Build with BuildKit or Podman."""
        if order.pip.folders:
            say(f"  note: {self.name} does not see pip's find-links folder {order.pip.folders[0]}")
        return run(
            order.image.name,
            [self.name, "build", *order.flags(), "."],
            log=order.logs / f"{order.image.name}.log",
            environment={**os.environ, "DOCKER_BUILDKIT": "1", "BUILDKIT_PROGRESS": "plain"},
            folder=ROOT,
        )


@dataclass(frozen=True, slots=True)
class Buildah:
    """Builds without an engine, as root, on a base image that debootstrap makes."""

    cache: Path
    name: str = "buildah"
    base: str = base.REFERENCE

    def prepare(self) -> None:
        """Install buildah and debootstrap where they are missing, make the base image once."""
        _require_packages(self.cache)
        if _json("buildah", "inspect", "--type=image", self.base, environment=self._environment()) is None:
            context = base.make_context(self.cache)
            command = ["buildah", "bud", "--layers", f"--tag={self.base}", "."]
            log = self.cache / "base.log"
            seconds = run("base: image", command, log=log, environment=self._environment(), folder=context)
            say(f"  {seconds:6.1f} s  {self.base}")

    def key_of(self, reference: str) -> str | None:
        """The content key of an image that is there."""
        name = f"localhost/{reference}"
        found = _json("buildah", "inspect", "--type=image", name, environment=self._environment())
        return _label(found["OCIv1"].get("config")) if found else None

    def build(self, order: Order) -> float:
        """Build with cached layers and without pulling anything."""
        mounts = [f"--volume={folder}:{folder}:ro" for folder in order.pip.folders]
        return run(
            order.image.name,
            ["buildah", "bud", "--layers", "--pull-never", *mounts, *order.flags(), "."],
            log=order.logs / f"{order.image.name}.log",
            environment=self._environment(),
            folder=ROOT,
        )

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "overlay"}


def choose(cache: Path) -> Builder:
    """Docker or Podman where one answers, else buildah."""
    for name, probe in (("docker", "{{.Server.Version}}"), ("podman", "{{.Client.Version}}")):
        if shutil.which(name) and not _run(name, "version", "--format", probe).returncode:
            return Engine(name)
    return Buildah(cache)


def _require_packages(cache: Path) -> None:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = sorted(package for program, package in DEBIAN_PACKAGES.items() if not shutil.which(program, path=path))
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise BuildError(f"cannot build images: no Docker answers and {' and '.join(missing)} is missing; install one")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing]
    for command in (["apt-get", "update", "-q"], install):
        log = cache / "apt-get.log"
        run(f"apt-get {command[1]} {' '.join(missing)}", command, log=log, environment=environment, folder=ROOT)


def _label(config: Mapping[str, Any] | None) -> str | None:
    labels = (config or {}).get("Labels") or {}
    key = labels.get(KEY_LABEL)
    return key if isinstance(key, str) else None


def _run(*command: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    env = dict(environment) if environment is not None else None
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def _json(*command: str, environment: Mapping[str, str] | None = None) -> Any:
    done = _run(*command, environment=environment)
    return json.loads(done.stdout) if done.returncode == 0 else None
