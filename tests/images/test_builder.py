"""The image builder's own logic, without an engine."""

import os
import sys

import pytest
from imagebuild.catalog import IMAGES, Image, content_key, select
from imagebuild.cli import main
from imagebuild.machine import BUNDLE_IN_BUILD, make_pip_settings, read_settings
from imagebuild.progress import BuildError, run

IMAGE = Image(name="thing", folder="thing", sources=("code", "requirements/thing.txt"))


@pytest.fixture
def root(tmp_path):
    for path in ("images/thing/Dockerfile", "code/main.py", "code/deep/more.py", "requirements/thing.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    return tmp_path


def key(root, *, base="base:1", arguments=None):
    return content_key(IMAGE, base=base, arguments=arguments or {}, root=root)


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "images/thing/Dockerfile").write_text("FROM other"),
        lambda root: (root / "code/deep/more.py").write_text("changed"),
        lambda root: (root / "code/new.py").touch(),
        lambda root: (root / "code/main.py").rename(root / "code/renamed.py"),
        lambda root: (root / "code/main.py").chmod(0o755),
        lambda root: (root / "requirements/thing.txt").unlink(),
    ],
    ids=["dockerfile", "content", "new", "renamed", "executable", "gone"],
)
def test_whatever_goes_into_the_image_changes_the_key(root, change):
    before = key(root)
    change(root)

    assert key(root) != before


def test_arguments_and_the_base_change_the_key_and_a_named_file_counts_with_its_content(root):
    (root / "mine.txt").write_text("torch")
    keys = [
        key(root),
        key(root, base="base:2"),
        key(root, arguments={"TORCH_INDEX": "a"}),
        key(root, arguments={"TORCH_REQUIREMENTS": "mine.txt"}),
    ]
    (root / "mine.txt").write_text("torch==2")
    keys.append(key(root, arguments={"TORCH_REQUIREMENTS": "mine.txt"}))

    assert len(set(keys)) == 5


def test_times_and_byte_code_leave_the_key_alone(root):
    before = key(root)
    os.utime(root / "code/main.py", (1, 1))
    (root / "code/__pycache__").mkdir()
    (root / "code/__pycache__/main.pyc").touch()
    (root / "elsewhere.py").touch()

    assert key(root) == before


def test_images_are_chosen_by_name_and_built_in_one_order():
    assert [image.name for image in select(["triton-cpu", "operator"])] == ["operator", "triton-cpu"]
    assert select([]) == select(["all"]) == IMAGES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["unicorn"], "unknown image 'unicorn'; known: operator"), (["--build-arg", "BASE"], "is not NAME=VALUE")],
)
def test_wrong_arguments_are_one_clear_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PILOTFISH_CACHE", str(tmp_path))

    assert main(arguments) == 1
    assert message in capsys.readouterr().err


def test_pip_takes_variables_over_files_and_keeps_the_bundle_out_of_the_image(tmp_path):
    bundle = tmp_path / "ca.crt"
    bundle.touch()
    config = tmp_path / "pip.conf"
    config.write_text("[global]\ntimeout = 5\nindex-url = https://files.example/simple\n")
    links = tmp_path / "wheels"
    links.mkdir()
    environment = {
        "PIP_CONFIG_FILE": str(config),
        "PIP_TIMEOUT": "180",
        "PIP_CERT": str(bundle),
        "PIP_FIND_LINKS": str(links),
        "PIP_NO_COLOR": "1",
    }

    empty = make_pip_settings(read_settings(environment, home=tmp_path), environment)
    (links / "some.whl").touch()
    filled = make_pip_settings(read_settings(environment, home=tmp_path), environment)

    lines = empty.text.splitlines()
    assert {"timeout = 180", "index-url = https://files.example/simple", f"cert = {BUNDLE_IN_BUILD}"} <= set(lines)
    assert empty.bundle == bundle
    assert str(bundle) not in empty.text
    assert empty.folders == ()
    assert "find-links" not in empty.text
    assert "no-color" not in empty.text
    assert filled.folders == (links,)
    assert f"find-links = {links}" in filled.text


def test_a_machine_without_settings_needs_no_bundle(tmp_path):
    settings = make_pip_settings({}, {})

    assert settings.bundle is None
    assert "cert" not in settings.text


def test_a_failed_program_shows_the_end_of_its_output(tmp_path):
    program = [sys.executable, "-c", "print('lots'); print('the reason'); raise SystemExit(3)"]

    with pytest.raises(BuildError, match=r"(?s)operator: .* failed after .*the reason"):
        run("operator", program, log=tmp_path / "logs" / "a.log", environment=os.environ, folder=tmp_path)
    with pytest.raises(BuildError, match="operator: the program no-such-program is missing"):
        run("operator", ["no-such-program"], log=tmp_path / "a.log", environment=os.environ, folder=tmp_path)
