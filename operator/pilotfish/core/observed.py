"""Everything that one pass knows: the object as read and its children. Frozen; nothing is fetched from here.

A child counts only when its controller's uid is the object's; pods count by the uid of the Job or of the ReplicaSet
behind them, and that by the uid of its Deployment. Anything else that carries one of our names is foreign: reported,
never touched. Neither labels nor names prove anything: whoever may make a pod may write them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from pilotfish import names
from pilotfish.api.job_progress import ProgressNote
from pilotfish.core.health.samples import Health
from pilotfish.core.objects import Body, ObjectRef, controller_uid, is_deleting, label_of, name_of, ref_of
from pilotfish.core.room import Room
from pilotfish.resources.routes import GATEWAY_API, GRPC_ROUTE, HTTP_ROUTE

CHILD_KINDS: tuple[tuple[str, str], ...] = (
    ("batch/v1", "Job"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "ControllerRevision"),
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("v1", "PersistentVolumeClaim"),
    ("policy/v1", "PodDisruptionBudget"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
)
"""(apiVersion, kind) of what the operator makes and therefore watches, by the label `pilotfish.dev/name`."""

ROUTE_KINDS: tuple[tuple[str, str], ...] = ((GATEWAY_API, HTTP_ROUTE), (GATEWAY_API, GRPC_ROUTE))
"""The same, where the Gateway API is in use. A cluster may lack them."""

SET_KIND: tuple[str, str] = ("apps/v1", "ReplicaSet")
"""What stands between a Deployment and its pods; Deployments give it our labels."""

POD_KIND: tuple[str, str] = ("v1", "Pod")
"""Pods are watched by the same label; Jobs and ReplicaSets make them."""

_MADE_BY_OTHERS = frozenset({SET_KIND[1], POD_KIND[1]})


def watched_kinds(*, gateway_api: bool) -> tuple[tuple[str, str], ...]:
    """(apiVersion, kind) of everything that is listed and watched beside the ModelDeployments."""
    return (*CHILD_KINDS, *(ROUTE_KINDS if gateway_api else ()), SET_KIND, POD_KIND)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What the pod of a Job answered when it was asked last."""

    job: str
    """Uid of the Job."""
    note: ProgressNote


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One ModelDeployment and its world, each kind sorted by name. Bodies carry apiVersion and kind."""

    body: Body
    children: tuple[Body, ...] = ()
    pods: tuple[Body, ...] = ()
    foreign: tuple[ObjectRef, ...] = ()
    health: Health = field(default_factory=Health)
    """Measured only while a rollout asks for it; empty otherwise."""
    room: Room | None = None
    """Looked at only while a candidate needs a place; None where nobody looked or the operator may not."""
    progress: Heard | None = None
    """What the running Job said of its progress; None where nobody asked or nothing came."""
    unserved: frozenset[str] = frozenset()
    """Kinds of ROUTE_KINDS that the cluster does not know."""

    @property
    def name(self) -> str:
        """metadata.name."""
        return name_of(self.body)

    @property
    def namespace(self) -> str:
        """metadata.namespace."""
        return str(self.body["metadata"]["namespace"])

    @property
    def uid(self) -> str:
        """metadata.uid."""
        return str(self.body["metadata"]["uid"])

    @property
    def generation(self) -> int:
        """metadata.generation."""
        return int(self.body["metadata"]["generation"])

    def of_kind(self, kind: str) -> tuple[Body, ...]:
        """All owned children of a kind."""
        return tuple(child for child in self.children if child["kind"] == kind)

    def child(self, kind: str, name: str) -> Body | None:
        """One owned child."""
        return next((c for c in self.children if c["kind"] == kind and name_of(c) == name), None)

    def pods_of_job(self, job: Body) -> tuple[Body, ...]:
        """The Job's pods, newest first."""
        return _newest_first(p for p in self.pods if controller_uid(p) == job["metadata"]["uid"])

    def pods_of_revision(self, revision: str) -> tuple[Body, ...]:
        """The Triton pods of a revision that are not on their way out, newest first."""
        return _newest_first(
            pod
            for pod in self.pods
            if label_of(pod, names.REVISION_LABEL) == revision
            and label_of(pod, names.COMPONENT_LABEL) == names.Component.TRITON
            and not is_deleting(pod)
        )


def observe(body: Body, objects: Iterable[Body], *, unserved: frozenset[str] = frozenset()) -> Observed:
    """Sort what was read into children, pods and strangers.

    `objects` are all objects of watched_kinds in the namespace that carry our name label, and whatever was found under
    a name that a plan wanted to create.
    """
    uid = body["metadata"]["uid"]
    ordered = sorted(objects, key=lambda o: (o["apiVersion"], o["kind"], name_of(o)))
    named = tuple(o for o in ordered if o["kind"] not in _MADE_BY_OTHERS)
    children = tuple(o for o in named if controller_uid(o) == uid)
    jobs = _uids(c for c in children if c["kind"] == "Job")
    deployments = _uids(c for c in children if c["kind"] == "Deployment")
    sets = _uids(o for o in ordered if o["kind"] == "ReplicaSet" and controller_uid(o) in deployments)
    return Observed(
        body=body,
        children=children,
        pods=tuple(o for o in ordered if o["kind"] == "Pod" and controller_uid(o) in jobs | sets),
        foreign=tuple(ref_of(o) for o in named if controller_uid(o) != uid),
        unserved=unserved,
    )


def _uids(bodies: Iterable[Body]) -> frozenset[str]:
    return frozenset(str(body["metadata"]["uid"]) for body in bodies)


def _newest_first(pods: Iterable[Body]) -> tuple[Body, ...]:
    return tuple(sorted(pods, key=lambda p: (p["metadata"].get("creationTimestamp", ""), name_of(p)), reverse=True))
