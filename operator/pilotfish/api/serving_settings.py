"""Which serving settings hold and where each comes from: what the user wrote, else what was measured, else a default.

Pure: the optimizer measures and packages by it, the operator renders config.pbtxt and tells status by it.
"""

from dataclasses import dataclass

from pilotfish.api.base import ApiModel, parse_duration
from pilotfish.api.markers import DocumentedEnum
from pilotfish.api.model_config import ServingConfig
from pilotfish.api.serving import ServingSpec
from pilotfish.api.tuning import TunedServing

DEFAULT_SERVING = ServingSpec()


class Origin(DocumentedEnum):
    """Where a value comes from."""

    SPEC = "Spec", "the object says it"
    TUNED = "Tuned", "it was measured in the optimization Job"
    DEFAULT = "Default", "a default of the operator or of its settings"


class GivenServing(ApiModel):
    """What the user wrote. The API server fills in defaults, so a value that equals its default counts as left out."""

    max_batch_size: int | None = None
    preferred_sizes: tuple[int, ...] | None = None
    max_queue_delay_microseconds: int | None = None
    instances: int | None = None
    intra_op_threads: int | None = None
    inter_op_threads: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """The settings of config.pbtxt, and the origin of each by its field in `GivenServing` or `accelerator`."""

    config: ServingConfig
    origins: dict[str, Origin]


def given_serving(serving: ServingSpec) -> GivenServing:
    """What differs from the defaults."""
    said, default = _values(serving), _values(DEFAULT_SERVING)
    return GivenServing.model_validate({key: value for key, value in said.items() if value != default[key]})


def resolve_serving(
    given: GivenServing, *, cores: int, gpu: bool, warmup: bool = True, tuned: TunedServing | None = None
) -> Resolved:
    """Given over tuned over default. `cores` is the pod's CPU limit; threads at 0 follow it, shared by instances.

    Instances and threads that were measured with another CPU limit do not count.
    """
    default = _values(DEFAULT_SERVING)
    found = {} if tuned is None else tuned.model_dump(exclude_none=True, exclude={"cores"})
    if tuned is not None and tuned.cores != cores:
        found = {key: value for key, value in found.items() if key not in {"instances", "intra_op_threads"}}
    said = given.model_dump(exclude_none=True)
    values = {**default, **found, **said}
    origins = {
        key: Origin.SPEC if key in said else Origin.TUNED if key in found else Origin.DEFAULT
        for key in (*default, *(("accelerator",) if "accelerator" in found else ()))
    }
    config = ServingConfig(
        max_batch_size=values["max_batch_size"],
        preferred_batch_sizes=tuple(values["preferred_sizes"]),
        max_queue_delay_us=values["max_queue_delay_microseconds"],
        instances=values["instances"],
        gpu=gpu,
        intra_op_threads=values["intra_op_threads"] or max(1, cores // values["instances"]),
        inter_op_threads=values["inter_op_threads"],
        warmup=warmup,
        accelerator=values.get("accelerator") if gpu else None,
    )
    return Resolved(config=config, origins=origins)


def _values(serving: ServingSpec) -> dict[str, int | tuple[int, ...]]:
    delay = parse_duration(serving.batching.max_queue_delay)
    return {
        "max_batch_size": serving.batching.max_batch_size,
        "preferred_sizes": serving.batching.preferred_sizes,
        "max_queue_delay_microseconds": round(delay.total_seconds() * 1_000_000),
        "instances": serving.instances,
        "intra_op_threads": serving.threads.intra_op,
        "inter_op_threads": serving.threads.inter_op,
    }
