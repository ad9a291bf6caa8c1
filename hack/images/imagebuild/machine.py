"""What a build needs from this machine and must not leave in an image: pip's settings, the CA bundle, caches.

pip's settings come from where pip itself takes them, PIP_* variables and its configuration files. They and the CA
bundle reach a build as secrets, which are mounted while a step runs and are in no layer.
"""

import configparser
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

BUNDLE_IN_BUILD = "/run/secrets/ca-bundle"
_PASSED = (
    "index-url",
    "extra-index-url",
    "trusted-host",
    "find-links",
    "timeout",
    "default-timeout",
    "retries",
    "proxy",
)


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder of what is made once per machine: PILOTFISH_CACHE, else the user's cache folder."""
    return Path(environment.get("PILOTFISH_CACHE") or Path.home() / ".cache" / "pilotfish").absolute() / "images"


@dataclass(frozen=True, slots=True, kw_only=True)
class PipSettings:
    """pip.conf for a build, the CA bundle behind it, and the local folders that it names."""

    text: str
    bundle: Path | None
    folders: tuple[Path, ...]


def read_settings(environment: Mapping[str, str] = os.environ, *, home: Path | None = None) -> dict[str, str]:
    """Pip's own settings on this machine by long option name; variables win over files, as in pip."""
    home = home or Path.home()
    files = [Path("/etc/pip.conf"), home / ".pip" / "pip.conf", home / ".config" / "pip" / "pip.conf"]
    if "PIP_CONFIG_FILE" in environment:
        files.append(Path(environment["PIP_CONFIG_FILE"]))
    parser = configparser.RawConfigParser()
    parser.read([file for file in files if file.is_file()], encoding="utf-8")
    settings: dict[str, str] = {}
    for section in ("global", "install"):
        if parser.has_section(section):
            settings.update(parser.items(section))
    for name, value in environment.items():
        if name.startswith("PIP_"):
            settings[name.removeprefix("PIP_").lower().replace("_", "-")] = value
    return settings


def make_pip_settings(settings: Mapping[str, str], environment: Mapping[str, str] = os.environ) -> PipSettings:
    """The settings that a build needs, with paths that exist inside it.

    A find-links folder that is empty or absent is left out, another one is named for the engine to mount.
    """
    passed = {name: settings[name] for name in _PASSED if settings.get(name)}
    links = [entry for entry in passed.pop("find-links", "").split() if "://" in entry or _has_files(Path(entry))]
    if links:
        passed["find-links"] = "\n    ".join(links)
    candidates = (settings.get("cert"), environment.get("SSL_CERT_FILE"), environment.get("REQUESTS_CA_BUNDLE"))
    bundle = next((Path(path) for path in candidates if path and Path(path).is_file()), None)
    if bundle is not None:
        passed["cert"] = BUNDLE_IN_BUILD
    passed["disable-pip-version-check"] = "true"
    passed["root-user-action"] = "ignore"
    text = "[global]\n" + "".join(f"{name} = {value}\n" for name, value in sorted(passed.items()))
    folders = tuple(Path(entry) for entry in links if "://" not in entry)
    return PipSettings(text=text, bundle=bundle, folders=folders)


def _has_files(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())
