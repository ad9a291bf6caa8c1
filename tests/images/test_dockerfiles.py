"""What must hold in every Dockerfile, read from its text."""

import re
from dataclasses import dataclass, field

import pytest
from imagebuild.catalog import IMAGES, ROOT

FILES = sorted({image.dockerfile for image in IMAGES})


@dataclass
class Stage:
    parent: str
    steps: list[str] = field(default_factory=list)


def parse(dockerfile):
    """The stages by name, and the arguments before the first of them."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / dockerfile).read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    stages, header, stage = {}, [], None
    for line in lines:
        if match := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            stage = stages[match[2]] = Stage(match[1])
        elif stage is None:
            header.append(line)
        else:
            stage.steps.append(line)
    return header, stages


def chain(stages, name):
    """A stage's steps after those of its parents."""
    stage = stages.get(name)
    return [*chain(stages, stage.parent), *stage.steps] if stage else []


@pytest.mark.parametrize("dockerfile", FILES)
def test_the_base_is_an_argument_with_a_pinned_default(dockerfile):
    header, stages = parse(dockerfile)

    assert header == ["ARG BASE=docker.io/library/python:3.12-slim-bookworm"]
    assert {stage.parent for stage in stages.values()} <= {"${BASE}", *stages}


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_the_image_runs_as_the_unprivileged_user(image):
    steps = chain(parse(image.dockerfile)[1], image.name)

    assert [step for step in steps if step.startswith("USER")] == ["USER 65532:65532"]
    after = steps[steps.index("USER 65532:65532") + 1 :]
    assert not any(step.startswith(("RUN", "COPY", "ADD")) for step in after)


@pytest.mark.parametrize("dockerfile", FILES)
def test_packages_are_installed_from_hash_locks_alone(dockerfile):
    for name, stage in parse(dockerfile)[1].items():
        for step in stage.steps:
            if "pip install" in step:
                assert "--no-deps" in step
                # A requirement file of the user's own may bring another PyTorch; the project's lock has hashes.
                assert "--require-hashes" in step or "--no-index" in step or name == "torch", step
            assert "apt-get" not in step


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_the_content_key_covers_every_file_that_is_copied(image):
    _, stages = parse(image.dockerfile)
    steps = chain(stages, image.name)
    for source in re.findall(r"COPY --from=(\S+)", "\n".join(steps)):
        steps = [*chain(stages, source), *steps]
    arguments = dict(re.findall(r'ARG (\w+)="?([^"\n]*)"?', "\n".join(steps)))
    copied = []
    for step in steps:
        if step.startswith("COPY ") and "--from" not in step:
            names = step.removeprefix("COPY ").split()[:-1]
            copied += [re.sub(r"\$\{(\w+)\}", lambda found: arguments[found[1]], name) for name in names]

    assert copied or image.name == "testbed"
    for path in copied:
        assert (ROOT / path).exists()
        assert any(path == source or path.startswith(f"{source}/") for source in image.sources), path


def test_the_project_comes_after_its_dependencies():
    for image in IMAGES:
        steps = chain(parse(image.dockerfile)[1], image.name)
        kinds = [
            "project" if "/dist" in step or "backends" in step else "packages"
            for step in steps
            if "pip install" in step or step.startswith("COPY")
        ]
        assert kinds == sorted(kinds), image.name


def test_the_images_with_pytorch_share_its_layer():
    optimizer, triton = (parse(f"images/{name}/Dockerfile")[1] for name in ("optimizer", "triton-cpu"))

    assert chain(optimizer, "torch") == chain(triton, "torch")
    assert triton["triton-cpu-torch-dependencies"].parent == optimizer["optimizer-torch-dependencies"].parent == "torch"


def test_the_same_steps_lead_to_python_and_to_the_wheel_everywhere():
    parsed = [parse(dockerfile)[1] for dockerfile in FILES]
    for name in ("python", "wheel"):
        assert len({tuple(stages[name].steps) for stages in parsed if name in stages}) == 1
