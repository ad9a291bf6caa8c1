"""System packages that the native backend and the image builds need: installed on Debian as root, else named."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from pilotcluster.console import ClusterError, step

SBIN = "/usr/sbin:/sbin"
# One file of each package that tells whether it is there.
PACKAGES: Mapping[str, str] = {
    "buildah": "buildah",
    "conntrack": "conntrack",
    "containernetworking-plugins": "/usr/lib/cni/ptp",
    "debootstrap": "debootstrap",
    "docker-registry": "docker-registry",
    "iproute2": "ip",
    "iptables": "iptables",
    "libpython3.11": "/usr/lib/*/libpython3.11.so.1.0",
    "openssl": "openssl",
    "runc": "runc",
    "skopeo": "skopeo",
    "util-linux": "nsenter",
}


def find_program(name: str) -> str | None:
    """Path of a program on PATH or in the administrator's folders."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SBIN}")


def missing() -> list[str]:
    """Names of the packages whose file is not on this machine, sorted."""

    def is_here(mark: str) -> bool:
        if mark.startswith("/"):
            return any(Path("/").glob(mark.lstrip("/")))
        return find_program(mark) is not None

    return sorted(package for package, mark in PACKAGES.items() if not is_here(mark))


def require() -> None:
    """Install what is missing with apt-get as root on Debian 12; otherwise raise one error that names everything."""
    names = missing()
    if not names:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise ClusterError(f"missing system packages: install {' '.join(names)} (Debian's names), then run this again")
    with step(f"apt-get install {' '.join(names)}"):
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", *names]):
            done = subprocess.run(["apt-get", *command], env=env, capture_output=True, text=True, check=False)
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
                raise ClusterError(f"apt-get {command[0]} failed: {reason}; install {' '.join(names)} by hand")
