"""What the Job's `fetch` container reads beside the model: samples, data to train on, and a teacher.

Said once for the builder of the pod and for the program in it. Pure.
"""

from dataclasses import dataclass

from pilotfish.api.job_input import SAMPLES_MOUNT, SOURCE_MOUNT
from pilotfish.api.model import ModelSpec
from pilotfish.api.optimization import OptimizationSpec

TRAINING_MOUNT = "/training"
TEACHER_MOUNT = "/teacher"


@dataclass(frozen=True, slots=True, kw_only=True)
class SideSource:
    """One place to read from; `name` is that of its volume, of its note and of its folder of credentials."""

    name: str
    uri: str
    secret_name: str | None
    mount: str

    @property
    def credentials(self) -> str:
        """Folder in RUN_MOUNT with the files of its Secret."""
        return f"{self.name}-credentials"


def lesson_sources(optimization: OptimizationSpec) -> tuple[SideSource, ...]:
    """What training needs, in the order in which it is fetched."""
    data = optimization.training_data
    teacher = optimization.distill.teacher if optimization.distill else None
    found = []
    if data is not None:
        found.append(SideSource(name="training", uri=data.uri, secret_name=data.secret_name, mount=TRAINING_MOUNT))
    if teacher is not None:
        found.append(SideSource(name="teacher", uri=teacher.uri, secret_name=teacher.secret_name, mount=TEACHER_MOUNT))
    return tuple(found)


def side_sources(model: ModelSpec, optimization: OptimizationSpec) -> tuple[SideSource, ...]:
    """All that is read beside the model. Samples from a claim lie at /source when the model does not."""
    if model.samples is None:
        return lesson_sources(optimization)
    samples = SideSource(
        name="samples",
        uri=model.samples.uri,
        secret_name=model.samples.secret_name,
        mount=SOURCE_MOUNT if claim_of(model.uri) is None else SAMPLES_MOUNT,
    )
    return (samples, *lesson_sources(optimization))


def claim_of(uri: str) -> str | None:
    """The claim of a `pvc://claim/path`, None for every other source."""
    if not uri.startswith("pvc://"):
        return None
    return uri.removeprefix("pvc://").split("/", 1)[0] or None


def claim_mounts(model: ModelSpec, optimization: OptimizationSpec) -> dict[str, tuple[str, str]]:
    """Volume name and mount of each claim that is read from; one claim is mounted once, the model's at /source."""
    source = claim_of(model.uri)
    found = {} if source is None else {source: ("source", SOURCE_MOUNT)}
    for side in side_sources(model, optimization):
        if (claim := claim_of(side.uri)) is not None:
            found.setdefault(claim, (side.name, side.mount))
    return found
