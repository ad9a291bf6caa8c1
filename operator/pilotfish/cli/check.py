"""What is wrong with a manifest as far as it can be known without a cluster: the contract, and what it cannot say."""

from collections.abc import Iterator, Mapping
from typing import Any

from pilotfish.api.lint import Finding, lint
from pilotfish.api.rollout import MaintenanceWindow
from pilotfish.core.rollout.windows import explain_window


def check(manifest: Mapping[str, Any]) -> tuple[Finding, ...]:
    """What the API server would refuse, and once that is right, what the operator could not follow."""
    return lint(manifest) or tuple(_check_windows(manifest))


def _check_windows(manifest: Mapping[str, Any]) -> Iterator[Finding]:
    """Schedules that never begin, and time zones that nobody knows."""
    windows = (manifest["spec"].get("rollout") or {}).get("maintenanceWindows") or ()
    for index, window in enumerate(windows):
        said = {name: value for name, value in window.items() if value is not None}
        if (told := explain_window(MaintenanceWindow.model_validate(said))) is not None:
            yield Finding(f"spec.rollout.maintenanceWindows[{index}]", told)
