"""The whole status of one pass, made from what was observed and decided. Written once, and only when it differs."""

from pilotfish import names
from pilotfish.api.conditions import timestamp
from pilotfish.api.report import Summary
from pilotfish.api.rollout_status import RolloutStatus
from pilotfish.api.serving import Protocol
from pilotfish.api.status import (
    ArtifactStatus,
    CandidateSummary,
    Endpoints,
    HistoryEntry,
    ModelDeploymentStatus,
    OptimizationStatus,
    Phase,
    RevisionStatus,
)
from pilotfish.core.conditions import View, make_conditions
from pilotfish.core.effective import make_effective
from pilotfish.core.objects import Body, label_of
from pilotfish.core.progress import Stage
from pilotfish.core.refresh import Refresh, source_status
from pilotfish.core.rollout.telling import describe_step
from pilotfish.core.scope import Scope
from pilotfish.resources.deployment import PORTS
from pilotfish.resources.revision import RevisionRecord
from pilotfish.resources.storage import bucket_uri

_PHASES = {
    Stage.OPTIMIZING: Phase.OPTIMIZING,
    Stage.STARTING: Phase.STARTING,
    Stage.VERIFYING: Phase.VERIFYING,
    Stage.CANARYING: Phase.CANARYING,
    Stage.PROMOTING: Phase.CANARYING,
    Stage.BAKING: Phase.BAKING,
    Stage.READY: Phase.READY,
    Stage.BLOCKED: Phase.STALLED,
}

_BOTH = 2


def make_status(view: View, history: tuple[HistoryEntry, ...], refresh: Refresh) -> ModelDeploymentStatus:
    """The status after this pass."""
    scope = view.scope
    serving = scope.records.get(view.stable) if view.stable else None
    if view.record is not None and view.stable == view.record.revision:
        serving = view.record
    newest = view.record or serving
    return ModelDeploymentStatus(
        observed_generation=scope.observed.generation,
        phase=_phase(view),
        step=describe_step(scope, view.rollout),
        variant=None if serving is None else _variant(serving),
        conditions=make_conditions(view),
        source=source_status(None if newest is None else newest.source, refresh, old=scope.status.source),
        stable_revision=_stable(view, serving),
        candidate_revision=_candidate(view),
        optimization=_optimization(view, newest),
        rollout=view.rollout if view.rollout != RolloutStatus() else None,
        effective=None if newest is None else make_effective(newest),
        replicas=sum(int(d.get("status", {}).get("replicas", 0)) for d in _serving(scope)),
        ready_replicas=view.pods.ready,
        selector=names.scale_selector(scope.owner.name),
        endpoints=None if view.stable is None else make_endpoints(scope),
        history=history,
    )


def make_endpoints(scope: Scope) -> Endpoints:
    """Addresses of the traffic Service inside the cluster."""
    host = f"{names.traffic_service(scope.owner.name)}.{scope.owner.namespace}.svc"
    protocols = scope.spec.serving.protocols
    return Endpoints(
        http=f"http://{host}:{PORTS.http}" if Protocol.HTTP in protocols else None,
        grpc=f"{host}:{PORTS.grpc}" if Protocol.GRPC in protocols else None,
    )


def _serving(scope: Scope) -> list[Body]:
    """The Deployments whose pods answer clients."""
    found = scope.observed.of_kind("Deployment")
    return [body for body in found if label_of(body, names.COMPONENT_LABEL) == names.Component.TRITON]


def _phase(view: View) -> Phase:
    if view.scope.spec.paused:
        return Phase.PAUSED
    if view.progress.stage is Stage.FAILED:
        return Phase.STALLED if view.stable is None else Phase.ABORTED
    if view.is_served:
        return Phase.READY
    if view.progress.stage is Stage.PROMOTING and len(view.serving) < _BOTH:
        return Phase.STARTING
    return _PHASES[view.progress.stage]


def _variant(record: RevisionRecord) -> str:
    speedup = record.summary.speedup if record.summary else None
    return record.artifact.variant if speedup is None else f"{record.artifact.variant} {speedup}x"


def _stable(view: View, record: RevisionRecord | None) -> RevisionStatus | None:
    if view.stable is None:
        return None
    old = view.scope.status.stable_revision
    return _revision(view.scope, view.stable, record, old)


def _candidate(view: View) -> RevisionStatus | None:
    scope = view.scope
    old = scope.status.candidate_revision
    if scope.revision == view.stable:
        return None
    if scope.spec.paused:
        return old
    return _revision(scope, scope.revision, view.record, old)


def _revision(scope: Scope, revision: str, record: RevisionRecord | None, old: RevisionStatus | None) -> RevisionStatus:
    same = old is not None and old.hash == revision
    return RevisionStatus(
        name=names.revision_name(scope.owner.name, revision),
        hash=revision,
        source_digest=None if record is None or record.source is None else record.source.digest,
        artifact=None if record is None else _artifact(record),
        since=old.since if old is not None and same and old.since else timestamp(scope.now),
    )


def _artifact(record: RevisionRecord) -> ArtifactStatus:
    artifact = record.artifact
    return ArtifactStatus(
        digest=artifact.digest,
        format=artifact.format,
        precision=artifact.precision,
        variant=artifact.variant,
        bytes=artifact.bytes,
    )


def _optimization(view: View, newest: RevisionRecord | None) -> OptimizationStatus | None:
    """What is known, and how far the Job is that works on something else."""
    found, job = _findings(view, newest), view.progress.job
    if found is None:
        return None if job is None else OptimizationStatus(progress=job)
    return found.model_copy(update={"progress": job})


def _findings(view: View, newest: RevisionRecord | None) -> OptimizationStatus | None:
    """Of the wanted revision; a failed one's findings stay as they were stored when it failed, else of what serves."""
    if view.record is None and view.progress.stage is Stage.FAILED:
        if view.progress.summary is not None:
            return _figures(view.progress.summary, report=None)
        if view.scope.status.optimization is not None:
            return view.scope.status.optimization
    if newest is None or newest.summary is None:
        return None
    scope = view.scope
    store = bucket_uri(scope.spec.storage) or f"pvc://{names.store_claim(scope.owner.name)}"
    return _figures(newest.summary, report=f"{store.rstrip('/')}/{newest.artifact.path}/report.json")


def _figures(summary: Summary, *, report: str | None) -> OptimizationStatus:
    return OptimizationStatus(
        winner=summary.winner,
        speedup=summary.speedup,
        baseline_latency_ms=summary.baseline_latency_ms,
        latency_ms=summary.latency_ms,
        max_abs_error=summary.max_abs_error,
        metric_drop=summary.metric_drop,
        tuning=summary.tuning,
        candidates=tuple(CandidateSummary(**c.model_dump()) for c in summary.candidates[:32]),
        report=report,
    )
