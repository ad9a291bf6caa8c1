"""Which artifacts are in use: those of every revision on record, and of every Deployment that stands. Pure."""

from pilotfish.api.job_input import INSTALL_ENV, InstallInput
from pilotfish.core.objects import Body
from pilotfish.core.observed import Observed
from pilotfish.resources.deployment import INSTALL_CONTAINER
from pilotfish.resources.revision import read_record


def artifacts_in_use(observed: Observed) -> tuple[str, ...] | None:
    """Their paths in the store, sorted; None when there are none, or when one cannot be read: then none may go.

    Records that are on their way out still count: their pods may not be gone yet.
    """
    try:
        recorded = {read_record(body).artifact.path for body in observed.of_kind("ControllerRevision")}
        standing = {path for body in observed.of_kind("Deployment") for path in _installs(body)}
    except (ValueError, KeyError, TypeError):
        return None
    return tuple(sorted(recorded | standing)) or None


def _installs(deployment: Body) -> list[str]:
    """What the pods of a Deployment copy; nothing for one that serves no model."""
    containers = deployment["spec"]["template"]["spec"].get("initContainers") or ()
    told = [env for one in containers if one["name"] == INSTALL_CONTAINER for env in one.get("env") or ()]
    return [InstallInput.model_validate_json(env["value"]).artifact for env in told if env["name"] == INSTALL_ENV]
