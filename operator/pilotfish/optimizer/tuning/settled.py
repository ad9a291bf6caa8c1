"""What is known about the serving settings of a winner when its artifact is written."""

from dataclasses import dataclass

from pilotfish.api.model_config import ServingConfig
from pilotfish.api.tuning import TunedServing, TuningReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """The settings of config.pbtxt; `serving` and `report` where tuning was asked for."""

    config: ServingConfig
    serving: TunedServing | None = None
    report: TuningReport | None = None
