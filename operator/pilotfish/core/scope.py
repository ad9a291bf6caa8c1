"""What one pass works on, derived once from what was observed: the wanted revision, the known ones, the stable one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pilotfish import names
from pilotfish.api.reasons import Reason
from pilotfish.api.rollout_status import RolloutStatus
from pilotfish.api.spec import ModelDeploymentSpec
from pilotfish.api.status import HistoryEntry, ModelDeploymentStatus
from pilotfish.core.failures import ARTIFACT_LOST, RECOVERS
from pilotfish.core.objects import is_deleting, label_of, name_of
from pilotfish.core.observed import Observed
from pilotfish.core.pin import effective_spec
from pilotfish.core.rollout.actions import Orders, Situation, read_orders
from pilotfish.core.rollout.state import resumed
from pilotfish.core.spelling import in_known_words
from pilotfish.resources.meta import Owner
from pilotfish.resources.policy import Policy
from pilotfish.resources.revision import RevisionRecord, read_record

FAILED = "Failed"
SUPERSEDED = "Superseded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """One pass. `status` is the stored one; `stable` the revision that has the traffic, None before the first."""

    observed: Observed
    spec: ModelDeploymentSpec
    status: ModelDeploymentStatus
    policy: Policy
    now: datetime
    owner: Owner
    revision: str
    recipe_key: str
    records: Mapping[str, RevisionRecord]
    stable: str | None
    spec_hash: str = ""
    """Tells whether the user asks for something else than the number of pods."""
    orders: Orders = field(default_factory=Orders)
    """What spec.rollout.action asks of this pass."""

    @property
    def rollout(self) -> RolloutStatus:
        """What is remembered of the rollout, with the orders in it."""
        stored = self.status.rollout or RolloutStatus()
        heeded = stored.model_copy(
            update={
                "last_action_id": self.orders.id,
                "action_message": self.orders.message,
                "undo": self.orders.undo,
                "promotion": self.orders.promotion or stored.promotion,
            }
        )
        return heeded if self.spec.paused else resumed(heeded, self.now)

    def serving_revisions(self) -> frozenset[str]:
        """Revisions that have Triton pods, or a Deployment that may make some."""
        labelled = (
            label_of(body, names.REVISION_LABEL)
            for body in (*self.observed.of_kind("Deployment"), *self.observed.pods)
            if label_of(body, names.COMPONENT_LABEL) == names.Component.TRITON
        )
        return frozenset(revision for revision in labelled if revision is not None)

    @property
    def is_same_attempt(self) -> bool:
        """Whether the wanted revision is the candidate that earlier passes already worked on."""
        candidate = self.status.candidate_revision
        return candidate is not None and candidate.hash == self.revision

    def failure_on_record(self) -> HistoryEntry | None:
        """How this attempt failed in an earlier pass; asking for something else in between makes a new attempt.

        A cause that the revision's hash does not cover (a deadline, room for the pods, a gateway) is tried again after
        any change of the spec, because the change may be its cure, but for the number of pods: an autoscaler changes
        that all the time. Deleting the record of a lost artifact asks to make it again.
        """
        entry = self._failed_before()
        if entry is None or self.wants_artifact_again or self.orders.retry:
            return None
        same = self.observed.generation == self.status.observed_generation
        if same or entry.spec_hash == self.spec_hash:
            return entry
        curable = entry.reason in {Reason.PROGRESS_DEADLINE_EXCEEDED, Reason.ROUTES_NOT_CONFIRMED, *RECOVERS}
        return None if curable else entry

    @property
    def wants_artifact_again(self) -> bool:
        """Whether the attempt failed for an artifact that was lost, and its record was deleted since."""
        entry = self._failed_before()
        return entry is not None and entry.reason in ARTIFACT_LOST and self.revision not in self.records

    def _failed_before(self) -> HistoryEntry | None:
        if not self.is_same_attempt:
            return None
        return next((e for e in self.status.history if e.revision == self.revision and e.result == FAILED), None)


def make_scope(observed: Observed, spec: ModelDeploymentSpec, policy: Policy, now: datetime) -> Scope:
    """Derive everything a pass needs."""
    status = read_status(observed)
    records = read_records(observed)
    stable = find_stable(observed, status, records)
    given = names.spec_hash(spec)
    spec = within_bounds(spec)
    spec = in_known_words(effective_spec(spec, status, records, stable), records.values())
    asked = names.revision_hash(spec)
    orders = read_orders(
        spec.rollout.action,
        status.rollout,
        Situation(spec=asked, stable=stable, known=records, failed=_has_failed(status, asked)),
    )
    revision = orders.undo.to_revision if orders.undo else asked
    return Scope(
        observed=observed,
        spec=spec,
        status=status,
        policy=policy,
        now=now,
        owner=Owner(name=observed.name, namespace=observed.namespace, uid=observed.uid),
        revision=revision,
        recipe_key=records[revision].recipe_key if orders.undo else names.recipe_key(spec),
        records=records,
        stable=stable,
        spec_hash=given,
        orders=orders,
    )


def within_bounds(spec: ModelDeploymentSpec) -> ModelDeploymentSpec:
    """The spec with its pods between the autoscaler's bounds, which holds before any autoscaler has looked.

    No pods at all are what Kubernetes takes for an autoscaler that is turned off.
    """
    bounds, replicas = spec.serving.autoscaling, spec.serving.replicas
    if bounds is None or replicas == 0:
        return spec
    kept = min(max(replicas, bounds.min_replicas), bounds.max_replicas)
    return spec.model_copy(update={"serving": spec.serving.model_copy(update={"replicas": kept})})


def _has_failed(status: ModelDeploymentStatus, asked: str) -> bool:
    """Whether the revision on its way is one that has failed."""
    candidate = status.candidate_revision
    wanted = candidate.hash if candidate else asked
    return any(entry.revision == wanted and entry.result == FAILED for entry in status.history)


def read_status(observed: Observed) -> ModelDeploymentStatus:
    """The stored status; an unreadable one counts as lost, and everything in it can be found again."""
    try:
        return ModelDeploymentStatus.model_validate(observed.body.get("status") or {})
    except ValueError:
        return ModelDeploymentStatus()


def read_records(observed: Observed) -> dict[str, RevisionRecord]:
    """Revision hash to record, oldest first; a ControllerRevision that holds something else is passed over."""
    found: dict[str, RevisionRecord] = {}
    for body in sorted(observed.of_kind("ControllerRevision"), key=lambda b: (int(b.get("revision", 0)), name_of(b))):
        if is_deleting(body):
            continue
        try:
            record = read_record(body)
        except ValueError:
            continue
        if name_of(body) == names.revision_name(observed.name, record.revision):
            found[record.revision] = record
    return found


def find_stable(observed: Observed, status: ModelDeploymentStatus, records: Mapping[str, RevisionRecord]) -> str | None:
    """The recorded stable revision; when the record is lost, the one that the traffic Service is labelled with."""
    service = observed.child("Service", names.traffic_service(observed.name))
    pointed = None if service is None else label_of(service, names.REVISION_LABEL)
    recorded = status.stable_revision.hash if status.stable_revision else None
    return next((r for r in (recorded, pointed) if r and _stands(observed, records, r)), None)


def _stands(observed: Observed, records: Mapping[str, RevisionRecord], revision: str) -> bool:
    name = names.revision_name(observed.name, revision)
    return revision in records or observed.child("Deployment", name) is not None
