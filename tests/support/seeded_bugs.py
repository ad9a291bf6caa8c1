"""Bugs that operators are known to have, each as one small change of our own code.

Sources: Sieve's classes (a crash between two writes, stale and unobserved state, names instead of uids), Acto's (drift,
misoperation, recovery), and the rollout bugs of Argo Rollouts, Flagger and KServe. A change names the exact text that it
replaces, so one that no longer fits is noticed by the tests.
"""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """`file` is below operator/pilotfish; `before` stands in it exactly once."""

    name: str
    file: str
    before: str
    after: str

    def apply(self, package: Path) -> None:
        """Change the copy of the package."""
        path = package / "pilotfish" / self.file
        text = path.read_text()
        assert text.count(self.before) == 1, f"{self.name}: {self.file} has {text.count(self.before)} places for it"
        path.write_text(text.replace(self.before, self.after))


BUGS = (
    # Names and labels instead of uids.
    Bug(
        name="children are adopted by their label",
        file="core/observed.py",
        before="children = tuple(o for o in named if controller_uid(o) == uid)",
        after="children = named",
    ),
    Bug(
        name="pods count by their label",
        file="core/observed.py",
        before='if o["kind"] == "Pod" and controller_uid(o) in jobs | sets)',
        after='if o["kind"] == "Pod")',
    ),
    Bug(
        name="what stands is overwritten without its uid",
        file="controller/reconcile.py",
        before='condition = {"resourceVersion": ABSENT} if apply.uid is None else {"uid": apply.uid}',
        after="condition: dict[str, Any] = {}",
    ),
    # A crash between two writes.
    Bug(
        name="the status tells of children before they are written",
        file="controller/reconcile.py",
        before="            await self._write_children(plan)\n        except Refused",
        after="            await self._tell(plan)\n            await self._write_children(plan)\n        except Refused",
    ),
    Bug(
        name="an event is sent before the status is stored",
        file="controller/reconcile.py",
        before='        before = after = reading.body.get("status") or {}\n',
        after='        before = after = reading.body.get("status") or {}\n'
        "        for event in plan.events:\n"
        "            await self._cluster.emit(event)\n"
        '        plan = __import__("dataclasses").replace(plan, events=())\n',
    ),
    Bug(
        name="a failure is forgotten",
        file="core/history.py",
        before="    if scope.failure_on_record() is not None:\n        return scope.status.history\n    rest = tuple(e for",
        after="    if scope is not None:\n        return scope.status.history\n    rest = tuple(e for",
    ),
    # Stale and unobserved state.
    Bug(
        name="what the cache says is deleted without asking",
        file="controller/reconcile.py",
        before="return bool(plan.deletes) or any(apply.uid is not None for apply in plan.applies)",
        after="return False",
    ),
    Bug(
        name="a status overwrites a newer one",
        file="core/report.py",
        before='("name", "namespace", "uid", "resourceVersion")',
        after='("name", "namespace")',
    ),
    Bug(
        name="what a list lacks stays in the cache",
        file="adapters/cache.py",
        before="                self._forget(held.uid)\n                self._drop(place)\n        self._unserved",
        after="                continue\n        self._unserved",
    ),
    Bug(
        name="a deletion is not heard",
        file="adapters/reflector.py",
        before="self._cache.heard_gone(event.body)",
        after="self._cache.heard(event.body)",
    ),
    Bug(
        name="a wake-up during a pass is lost",
        file="controller/loop.py",
        before="            self._again.add(key)\n        elif",
        after="            pass\n        elif",
    ),
    Bug(
        name="a lost watch is not listed again",
        file="adapters/reflector.py",
        before="        except Gone:\n            self._version = None\n",
        after="        except Gone:\n",
    ),
    # Drift and hot loops.
    Bug(
        name="a field that somebody edited is not noticed",
        file="core/drift.py",
        before="return applied == annotation_of(wanted, names.APPLIED_HASH) and same",
        after="return applied == annotation_of(wanted, names.APPLIED_HASH)",
    ),
    Bug(
        name="defaults of the API server count as drift",
        file="core/drift.py",
        before="return applied == annotation_of(wanted, names.APPLIED_HASH) and same",
        after="return applied == annotation_of(wanted, names.APPLIED_HASH) and same and found == wanted",
    ),
    Bug(
        name="the status is written in every pass",
        file="core/report.py",
        before='if wire == (observed.body.get("status") or {}):',
        after='if wire is (observed.body.get("status") or {}):',
    ),
    Bug(
        name="what is on its way out is deleted again",
        file="core/planner.py",
        before="body for body in bodies if not is_deleting(body)}",
        after="body for body in bodies}",
    ),
    Bug(
        name="what is on its way out is applied again",
        file="core/drift.py",
        before="    if is_deleting(found):\n        return None\n",
        after="",
    ),
    Bug(
        name="a deleted object is still worked on",
        file="core/planner.py",
        before="    if is_deleting(observed.body):\n        return Plan()\n",
        after="",
    ),
    # Two who write.
    Bug(
        name="a replica writes without the lease",
        file="controller/fence.py",
        before="        if until is None:\n            raise NotLeader",
        after="        if until is not None and until < 0:\n            raise NotLeader",
    ),
    Bug(
        name="the lease is taken from a living holder",
        file="controller/lease.py",
        before='return _now() - self._seen_at >= float(spec.get("leaseDurationSeconds") or self._times.duration)',
        after="return _now() - self._seen_at >= 0",
    ),
    # Jobs.
    Bug(
        name="two Jobs make one artifact",
        file="core/artifact.py",
        before="in_the_way = [job for job in _jobs_of_recipe(scope) if not is_finished(job)]",
        after="in_the_way: list[Body] = []",
    ),
    Bug(
        name="a running Job is taken for a needless one",
        file="core/retire.py",
        before="if not is_finished(job) and name_of(job) != used]",
        after="if not is_finished(job)]",
    ),
    Bug(
        name="a Job whose pods are gone has failed",
        file="core/job_outcome.py",
        before='    if not any(phase_of(pod) == "Succeeded" for pod in pods):\n'
        "        return Lost() if all(leaves(pod) for pod in pods) else Running()\n    for pod,",
        after="    for pod,",
    ),
    Bug(
        name="an artifact that a sibling has is made again",
        file="core/artifact.py",
        before="    if sibling is not None:\n        result",
        after="    if sibling is None and known is not None:\n        result",
    ),
    # Rollouts.
    Bug(
        name="old pods go before they have drained",
        file="core/retire.py",
        before="if until is not None and until > scope.now:",
        after="if until is not None and until < scope.now:",
    ),
    Bug(
        name="an aborted candidate's pods go while routes still name it",
        file="core/rollout/departure.py",
        before="    if routed and not _waited_enough(scope, state, leaving):",
        after="    if routed and _waited_enough(scope, state, leaving):",
    ),
    Bug(
        name="nothing is verified",
        file="core/rollout/machine.py",
        before="return enter(state, RolloutStage.VERIFYING, scope.now)",
        after="return enter(state, RolloutStage.PROMOTING, scope.now)",
    ),
    Bug(
        name="promoted before the traffic has arrived",
        file="core/rollout/machine.py",
        before="        if arrived.there:\n            return _arrived",
        after="        if layout is not None:\n            return _arrived",
    ),
    Bug(
        name="a bake that begins anew in every pass",
        file="core/rollout/machine.py",
        before="began = parse_time(state.stage_started_at) if state.stage_started_at else scope.now",
        after="began = scope.now",
    ),
    Bug(
        name="a step that does not hold",
        file="core/rollout/stepping.py",
        before="if over is not None and scope.now >= over and judged.may_proceed:",
        after="if over is not None and judged.may_proceed:",
    ),
    Bug(
        name="a step ends without a verdict",
        file="core/rollout/stepping.py",
        before="if over is not None and scope.now >= over and judged.may_proceed:",
        after="if over is not None and scope.now >= over:",
    ),
    Bug(
        name="missing data is good data",
        file="core/health/verdicts.py",
        before="if verdict is Verdict.NO_DATA and on_no_data is OnNoData.PASS else verdict",
        after="if verdict is Verdict.NO_DATA else verdict",
    ),
    Bug(
        name="a counter that fell counts backwards",
        file="core/health/window.py",
        before="return new if _restarted(before, after) else Counter(",
        after="return Counter(",
    ),
    Bug(
        name="an abort of nothing",
        file="core/rollout/actions.py",
        before="    return wanted != at.stable and not at.failed",
        after="    return wanted != at.stable or not at.failed",
    ),
    Bug(
        name="the stable revision is whoever the Service names",
        file="core/scope.py",
        before="for r in (recorded, pointed) if r and _stands",
        after="for r in (pointed, recorded) if r and _stands",
    ),
    Bug(
        name="going back waits for nobody",
        file="core/rollout/layout.py",
        before="safe = stable.ready >= promised(scope) or not asks or other.ready == 0",
        after="safe = True",
    ),
    Bug(
        name="waiting for a GPU is a failure",
        file="core/failures.py",
        before="        Reason.INSUFFICIENT_GPU,\n",
        after="",
    ),
)
