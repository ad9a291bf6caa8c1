"""What a pass needs measured: from the stored status and the spec alone, before anything is asked. Pure.

Outside a rollout nothing is wanted, and then nothing is opened.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pilotfish import names
from pilotfish.api.base import parse_duration
from pilotfish.api.rollout import ActionVerb, Analysis
from pilotfish.api.rollout_status import RolloutStage, RolloutStatus
from pilotfish.api.spec import ModelDeploymentSpec
from pilotfish.api.status import ModelDeploymentStatus
from pilotfish.core.objects import Body, is_deleting, label_of
from pilotfish.core.observed import Observed
from pilotfish.core.pin import effective_spec
from pilotfish.core.rollout.state import TAKES_REQUESTS
from pilotfish.core.scope import read_records, read_status
from pilotfish.core.spelling import in_known_words

NEEDING_ROOM = frozenset({None, RolloutStage.STARTING, RolloutStage.STEPPING, RolloutStage.PROMOTING})


REVISION_PLACEHOLDER = "${revision}"
"""Stands in a query for the hash of the revision that is asked about."""
_LEAST_INTERVAL = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A pod that has counters."""

    uid: str
    revision: str
    address: str
    """Its IP address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to measure. Without anything in it, what was measured before may be forgotten."""

    model: str = ""
    """Its name in Triton."""
    targets: tuple[Target, ...] = ()
    """Pods to ask now: those whose server runs."""
    uids: frozenset[str] = frozenset()
    """Pods whose earlier samples still count: they exist, whether or not they can be asked now."""
    queries: Mapping[str, str] = field(default_factory=dict)
    """Query about the candidate by the name of its check."""
    baselines: Mapping[str, str] = field(default_factory=dict)
    """The same about the stable revision, of checks that compare with it and say where the revision stands."""
    shadow: Target | None = None
    """The pod that compares answers."""
    room: str | None = None
    """The GPU resource to find room for."""
    tolerations: tuple[Mapping[str, Any], ...] = ()
    """Of the pods that need it, with those that the cluster has added to the ones that there are."""
    interval: timedelta = timedelta(seconds=15)
    """Between two measurements that are judged."""
    window: timedelta = timedelta(minutes=1)
    """That one of them looks back."""
    is_urgent: bool = False
    """Somebody waits for an abort: what is known already will do."""

    @property
    def counts(self) -> bool:
        """Whether a candidate takes requests, so that samples are kept."""
        return bool(self.uids or self.queries or self.shadow)


def wanted_measurements(observed: Observed) -> Wanted:
    """What the next plan should know. A spec that cannot be read wants nothing."""
    if is_deleting(observed.body):
        return Wanted()
    try:
        spec = ModelDeploymentSpec.model_validate(observed.body.get("spec") or {})
    except ValueError:
        return Wanted()
    status = read_status(observed)
    spec = effective_spec(spec, status, {}, None)
    rollout = status.rollout or RolloutStatus()
    room = _room(spec, status, rollout)
    if room is not None and rollout.stage is None:  # What looks new may be what serves, in other words.
        room = _room(in_known_words(spec, read_records(observed).values()), status, rollout)
    if rollout.stage not in TAKES_REQUESTS or rollout.revision is None:
        return Wanted(room=room, tolerations=_tolerations(observed) if room else ())
    stable = status.stable_revision.hash if status.stable_revision else None
    revisions = dict.fromkeys(revision for revision in (stable, rollout.revision) if revision)
    pods = [pod for revision in revisions for pod in observed.pods_of_revision(revision)]
    judged = spec.rollout.analysis or Analysis()
    checks = judged.checks.prometheus
    return Wanted(
        model=observed.name,
        targets=tuple(target for pod in pods if (target := _target(pod)) is not None),
        uids=frozenset(str(pod["metadata"]["uid"]) for pod in pods),
        queries={check.name: _about(check.query, rollout.revision) for check in checks},
        baselines={
            check.name: _about(check.query, stable)
            for check in checks
            if stable and check.max_regression is not None and REVISION_PLACEHOLDER in check.query
        },
        shadow=_shadow(observed, rollout.revision),
        room=room,
        tolerations=_tolerations(observed) if room else (),
        interval=interval_of(judged),
        window=parse_duration(judged.window),
        is_urgent=_has_new_action(spec, rollout) and _verb(spec) == ActionVerb.ABORT,
    )


def interval_of(analysis: Analysis) -> timedelta:
    """Between two measurements; no shorter than the schema allows, whatever an older one let in."""
    return max(_LEAST_INTERVAL, parse_duration(analysis.interval))


def _about(query: str, revision: str) -> str:
    return query.replace(REVISION_PLACEHOLDER, revision)


def _room(spec: ModelDeploymentSpec, status: ModelDeploymentStatus, rollout: RolloutStatus) -> str | None:
    gpus = spec.serving.gpus
    has_candidate = rollout.stage is not None or _is_new(spec, status, rollout)
    return gpus.resource if gpus.count > 0 and rollout.stage in NEEDING_ROOM and has_candidate else None


def _tolerations(observed: Observed) -> tuple[Mapping[str, Any], ...]:
    """Of the newest Triton pod; before there is one, nothing is known of what the cluster would add."""
    pods = [pod for pod in observed.pods if label_of(pod, names.COMPONENT_LABEL) == names.Component.TRITON]
    pods = [pod for pod in pods if label_of(pod, names.SHADOW_LABEL) is None]
    return tuple(_newest_first(pods)[0].get("spec", {}).get("tolerations") or ()) if pods else ()


def _newest_first(pods: Iterable[Body]) -> list[Body]:
    return sorted(pods, key=lambda p: (p["metadata"].get("creationTimestamp", ""), p["metadata"]["uid"]), reverse=True)


def _is_new(spec: ModelDeploymentSpec, status: ModelDeploymentStatus, rollout: RolloutStatus) -> bool:
    """Whether a revision waits that neither serves nor was given up; an action may ask for one that was."""
    if _has_new_action(spec, rollout):
        return True
    asked = names.revision_hash(spec)
    undone = rollout.undo is not None and rollout.undo.from_revision == asked
    revision = rollout.undo.to_revision if rollout.undo and undone else asked
    given_up = rollout.aborted is not None and rollout.aborted.revision == revision
    stable = status.stable_revision.hash if status.stable_revision else None
    return revision != stable and not given_up


def _has_new_action(spec: ModelDeploymentSpec, rollout: RolloutStatus) -> bool:
    return spec.rollout.action is not None and spec.rollout.action.id != rollout.last_action_id


def _verb(spec: ModelDeploymentSpec) -> ActionVerb | None:
    return spec.rollout.action.verb if spec.rollout.action else None


def _shadow(observed: Observed, revision: str) -> Target | None:
    """The newest shadow pod of the candidate that runs."""
    pods = (p for p in observed.pods if label_of(p, names.SHADOW_LABEL) == revision and not is_deleting(p))
    return next((target for pod in _newest_first(pods) if (target := _target(pod)) is not None), None)


def _target(pod: Body) -> Target | None:
    """None while there is nobody to ask: no address, or a server that has not started or has ended.

    A pod on its node's own network is none that we made: whoever forged it would have us ask the node.
    """
    status = pod.get("status") or {}
    containers = status.get("containerStatuses") or ()
    runs = bool(containers) and all(container.get("started") is True for container in containers)
    address = status.get("podIP")
    if not runs or not address or pod.get("spec", {}).get("hostNetwork"):
        return None
    uid, revision = pod["metadata"]["uid"], label_of(pod, names.REVISION_LABEL) or label_of(pod, names.SHADOW_LABEL)
    return Target(uid=str(uid), revision=str(revision), address=str(address))
