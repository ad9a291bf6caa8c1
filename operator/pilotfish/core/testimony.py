"""What a Job's result may be believed about, and what is taken from elsewhere. Pure.

The container that opens the model may run the model's code, so its word counts for the artifact alone, which is proven
again wherever it is used. Which bytes were fetched, and whose signature they bear, is the word of `fetch`, which opens
nothing; which image ran is the pod's.
"""

from collections.abc import Mapping
from typing import Any

from pilotfish.api.report import OptimizerReason, OptimizerRecord, Outcome, SourceRecord, TerminationMessage
from pilotfish.core.failures import read_termination_message
from pilotfish.core.objects import Body
from pilotfish.resources.job import FETCH_CONTAINER, OPTIMIZE_CONTAINER

_KINDS = (("initContainers", "initContainerStatuses"), ("containers", "containerStatuses"))


def witnessed(told: TerminationMessage, pod: Body) -> TerminationMessage:
    """The result of a pod's container with the source as `fetch` saw it, and the image that made the artifact."""
    return told.model_copy(update={"source": _source(told, pod), "optimizer": _optimizer(told, pod)})


def _source(told: TerminationMessage, pod: Body) -> SourceRecord | None:
    fetched = _message(pod, FETCH_CONTAINER)
    if fetched is None or fetched.outcome is not Outcome.SUCCEEDED or fetched.source is None:
        return told.source
    found = fetched.source.format or (told.source.format if told.source else None)
    return fetched.source.model_copy(update={"format": found})


def _optimizer(told: TerminationMessage, pod: Body) -> OptimizerRecord | None:
    """Without an image where another Job made the artifact: this one's had no part in it."""
    version = told.optimizer.version if told.optimizer else None
    made_here = told.reason is not OptimizerReason.ARTIFACT_REUSED
    container, status = _container(pod, OPTIMIZE_CONTAINER) if made_here else ({}, {})
    record = OptimizerRecord(version=version, image=container.get("image"), image_id=status.get("imageID") or None)
    return record if record.to_wire() else None


def _message(pod: Body, name: str) -> TerminationMessage | None:
    _, status = _container(pod, name)
    ended = (status.get("state") or {}).get("terminated")
    return read_termination_message(ended) if ended else None


def _container(pod: Body, name: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """A container as asked for and as it ran; both empty where there is none."""
    for said, ran in _KINDS:
        for container in pod["spec"].get(said) or ():
            if container["name"] == name:
                statuses = pod.get("status", {}).get(ran) or ()
                return container, next((s for s in statuses if s.get("name") == name), {})
    return {}, {}
