"""S33: what the images are made of is written down, hash by hash, and nothing comes in that is not."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
# Each image, and how many of what it is made of must be known by name here: the locks are read once more, differently.
IMAGES = {
    "operator": ("operator",),
    "optimizer": ("optimizer",),
    "optimizer-torch": ("torch", "optimizer-torch"),
    "optimizer-tf": ("optimizer-tf",),
    "triton-cpu": ("triton-cpu",),
    "triton-cpu-torch": ("torch", "triton-cpu"),
    "testbed": ("testbed",),
}
OURS = {"operator", "optimizer", "optimizer-torch", "optimizer-tf"}


def lock(name):
    """Lines of a lock, each with its hashes on one line."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The documents, by the command that `make sbom` runs."""
    folder = tmp_path_factory.mktemp("sbom")
    environment = {"SOURCE_DATE_EPOCH": "1700000000", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, ROOT / "hack" / "sbom", "--out", folder]
    subprocess.run(command, check=True, env=environment, capture_output=True)
    return {path.name.partition(".")[0]: path.read_text() for path in folder.iterdir()}


def components(written, image):
    return {part["name"]: part for part in json.loads(written[image])["components"]}


def test_s33_every_image_has_one(written):
    loader = SourceFileLoader("catalog", str(ROOT / "hack" / "images" / "imagebuild" / "catalog.py"))
    catalog = module_from_spec(spec_from_loader("catalog", loader))
    sys.modules["catalog"] = catalog
    loader.exec_module(catalog)
    assert set(written) == {image.name for image in catalog.IMAGES} == set(IMAGES)


@pytest.mark.parametrize("image", IMAGES)
def test_s33_it_keeps_to_the_schema(written, image):
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(written[image]) is None


@pytest.mark.parametrize(("image", "locks"), IMAGES.items(), ids=IMAGES)
def test_s33_every_locked_package_is_in_it_with_its_hashes(written, image, locks):
    found = components(written, image)
    wanted = {}
    for line in (line for name in locks for line in lock(name)):
        name, version = re.match(r"([a-z0-9._-]+)==([^ ;]+)", line).groups()
        # These are for other machines than the image's: the lock is for all.
        if re.search(r"sys_platform == '(win32|darwin|never|emscripten)'|python_full_version < '3\.12", line):
            continue
        wanted[name] = version
        part = found.get(name)
        if part is None:
            assert ";" in line, f"{image} lacks {line[:60]}"
            del wanted[name]
            continue
        accepted = {entry["value"] for entry in part["properties"]}
        assert accepted == set(re.findall(r"sha256:([0-9a-f]{64})", line)), name
        assert part["purl"] == f"pkg:pypi/{name}@{version}"
    assert len(wanted) > 5
    assert wanted.items() <= {name: part["version"] for name, part in found.items()}.items()
    rest = set(found) - set(wanted)
    assert rest == {"docker.io/library/python", *(["pilotfish"] if image in OURS else [])}


def test_s33_the_same_tree_gives_the_same_bytes(written, tmp_path):
    environment = {"SOURCE_DATE_EPOCH": "1700000000", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, ROOT / "hack" / "sbom", "--out", tmp_path, "operator"]
    subprocess.run(command, check=True, env=environment, capture_output=True)
    assert (tmp_path / "operator.cdx.json").read_text() == written["operator"]


def test_s33_another_base_is_named_with_its_python(tmp_path):
    command = [sys.executable, ROOT / "hack" / "sbom", "--out", tmp_path, "operator", "--base"]
    without = subprocess.run([*command, "mirror/debian:13"], capture_output=True, text=True, check=False)
    assert "does not say its Python" in without.stderr
    subprocess.run([*command, "mirror/debian:13", "--python", "3.13"], check=True, capture_output=True)
    parts = json.loads((tmp_path / "operator.cdx.json").read_text())["components"]
    assert {"name": "mirror/debian", "version": "13"}.items() <= next(
        p for p in parts if p["bom-ref"] == "base"
    ).items()


def test_s33_an_image_that_nobody_knows_is_named():
    done = subprocess.run(
        [sys.executable, ROOT / "hack" / "sbom", "nobody"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "unknown image 'nobody'" in done.stderr


FLOORS = {
    "torch": ("2.10.0", "S2: CVE-2025-32434, CVE-2026-24747 in torch.load(weights_only=True)"),
    "onnx": ("1.21.0", "S6: CVE-2026-27489, CVE-2026-34445 around external data"),
    "kopf": ("1.45.2", "a watcher that dies takes the process along"),
}


@pytest.mark.parametrize(("name", "floor"), FLOORS.items(), ids=FLOORS)
def test_s33_no_lock_goes_below_the_version_that_mends_a_known_hole(name, floor):
    version, why = floor
    locked = {
        path.stem: match.group(1)
        for path in (ROOT / "requirements").glob("*.txt")
        for match in re.finditer(rf"^{name}==([^ ;]+)", path.read_text(), flags=re.MULTILINE)
        if path.stem not in {"olive", "triton-overrides", "tensorflow-overrides", "overrides"}
    }
    assert locked
    for where, found in locked.items():
        assert Version(found) >= Version(version), f"{where} has {name} {found}; {why}"


@pytest.mark.parametrize("dockerfile", sorted(ROOT.glob("images/*/Dockerfile")), ids=lambda path: path.parent.name)
def test_s33_images_install_nothing_that_is_not_locked(dockerfile):
    """Every `pip install` reads a lock, without what it would add by itself; hashes are asked for, or all in the lock."""
    text = dockerfile.read_text().replace("\\\n", " ")
    installs = re.findall(r"pip install[^\n]*", text)
    assert installs
    for line in installs:
        assert "--no-deps" in line, line
        if "--no-index" in line:
            assert "/opt/pilotfish/dist/pilotfish-" in line, line
        elif "torch.txt" in line:
            # An index of one's own may have no hashes; ours has them all, and pip then asks for every one of them.
            assert all("--hash=sha256:" in entry for entry in lock("torch"))
        else:
            assert "--require-hashes" in line, line
    assert not re.search(r"\b(curl|wget|git clone|apt-get|ADD\s+http)\b", text)


@pytest.mark.parametrize(
    ("options", "wanted"), [([], None), (["--upgrade"], "7 days"), (["--upgrade", "--cooldown", "0"], None)]
)
def test_s33_an_upgrade_waits_for_releases_to_be_a_week_old(tmp_path, options, wanted):
    """Asked of the command that would be run: a `uv` that only says how it was called."""
    fake = tmp_path / "uv"
    fake.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    fake.chmod(0o755)
    command = [sys.executable, ROOT / "hack" / "lock", "bootstrap", *options]
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    waits = [word for word in done.stdout.splitlines() if word.startswith("--exclude-newer")]
    assert waits == ([] if wanted is None else [f"--exclude-newer={wanted}"])


def test_s33_the_build_itself_is_locked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (backend,) = project["build-system"]["requires"]
    assert backend in (ROOT / "requirements" / "build.txt").read_text()
