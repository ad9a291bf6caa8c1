"""Where things live: caches that outlive a cluster, and one state folder per cluster that does not."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from pilotcluster.console import ClusterError

HERE = Path(__file__).resolve().parents[1]
REPOSITORY = HERE.parents[1]
DEFAULT_NAME = "pilotfish"
MAX_NAME = 40


def cache_root() -> Path:
    """The folder of built and downloaded programs: PILOTFISH_CACHE, else the user's cache folder."""
    return Path(os.environ.get("PILOTFISH_CACHE") or Path.home() / ".cache" / "pilotfish").absolute()


def state_root() -> Path:
    """The folder of running clusters: PILOTFISH_STATE, else the user's state folder."""
    return Path(os.environ.get("PILOTFISH_STATE") or Path.home() / ".local" / "state" / "pilotfish").absolute()


@dataclass(frozen=True, slots=True)
class Layout:
    """Every path of one cluster's state folder."""

    name: str
    folder: Path

    @property
    def record(self) -> Path:
        """What the cluster remembers of itself; see record.py."""
        return self.folder / "state.json"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.folder / "kubeconfig"

    @property
    def certificates(self) -> Path:
        """Certificates and keys, for root alone."""
        return self.folder / "pki"

    @property
    def config(self) -> Path:
        """Config files and kubeconfigs of the programs."""
        return self.folder / "config"

    @property
    def logs(self) -> Path:
        """One log for each program."""
        return self.folder / "logs"

    @property
    def volumes(self) -> Path:
        """Folders that answer claims of the default storage class."""
        return self.folder / "volumes"

    @property
    def images(self) -> Path:
        """What containerd keeps. The default cluster's images outlive it, unpacked, because 5 GB take minutes."""
        return cache_root() / "containerd" if self.name == DEFAULT_NAME else self.folder / "containerd"

    def certificate(self, name: str) -> Path:
        """Path of a certificate."""
        return self.certificates / f"{name}.crt"

    def key(self, name: str) -> Path:
        """Path of a private key."""
        return self.certificates / f"{name}.key"

    def client(self, name: str) -> Path:
        """Path of one program's kubeconfig."""
        return self.config / f"{name}.kubeconfig"


def layout_of(name: str) -> Layout:
    """The layout of the named cluster. Raises ClusterError for a name that cannot be a folder and a node name."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", name) or len(name) > MAX_NAME:
        raise ClusterError(f"cluster name {name!r}: use at most {MAX_NAME} of a-z, 0-9 and inner dashes")
    return Layout(name=name, folder=state_root() / name)
