"""What the scheduler and the kubelet write into a pod. Each function changes the pod that it gets."""

from datetime import datetime
from typing import Any

MOST_RESTARTS = 5


def bind(pod: dict[str, Any], now: datetime) -> None:
    """The scheduler has found a place."""
    pod["spec"]["nodeName"] = "node"
    set_condition(pod, "PodScheduled", now, value=True)


def leave_pending(pod: dict[str, Any], now: datetime) -> None:
    """The scheduler has found none."""
    message = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: not helpful."
    set_condition(pod, "PodScheduled", now, value=False, reason="Unschedulable", message=message)


def set_condition(pod: dict[str, Any], kind: str, now: datetime, *, value: bool, **more: str) -> None:
    """Set one condition; its time moves with its status alone."""
    conditions = pod["status"].setdefault("conditions", [])
    old = next((c for c in conditions if c["type"] == kind), None)
    same = old is not None and old["status"] == str(value)
    since = old["lastTransitionTime"] if old is not None and same else now.isoformat()
    conditions[:] = [c for c in conditions if c["type"] != kind]
    conditions.append({"type": kind, "status": str(value), "lastTransitionTime": since, **more})


def end(pod: dict[str, Any], container: str, *, code: int, message: str, reason: str = "Completed") -> None:
    """A container has ended, and with it the pod."""
    state = {"terminated": {"exitCode": code, "message": message, "reason": reason if code in {0, 137} else "Error"}}
    key = "initContainerStatuses" if container == "fetch" else "containerStatuses"
    pod["status"][key] = [{"name": container, "ready": False, "restartCount": 0, "state": state, "image": "i"}]
    pod["status"]["phase"] = "Succeeded" if code == 0 else "Failed"


def serve(pod: dict[str, Any], now: datetime) -> None:
    """The server is up, after as many restarts as there were."""
    set_condition(pod, "Ready", now, value=True)
    before = (pod["status"].get("containerStatuses") or [{}])[0]
    kept = {"lastState": before["lastState"]} if "lastState" in before else {}
    count = before.get("restartCount", 0)
    pod["status"]["containerStatuses"] = [
        {
            "name": "triton",
            "ready": True,
            "restartCount": count,
            "state": {"running": {}},
            "image": "triton",
            **kept,
        }
    ]


def tell_and_go_on(pod: dict[str, Any], container: str, now: datetime, *, message: str) -> None:
    """A container has ended to say something and runs again; nothing when that is what it said last."""
    before = pod["status"].get("containerStatuses") or [{}]
    if before[0].get("lastState", {}).get("terminated", {}).get("message") == message:
        return
    ended = {"exitCode": 0, "message": message, "reason": "Completed", "finishedAt": now.isoformat()}
    count = before[0].get("restartCount", 0) + 1
    state = {"state": {"running": {}}, "lastState": {"terminated": ended}, "restartCount": count}
    pod["status"]["containerStatuses"] = [{"name": container, "ready": True, "image": "i", **state}]
    set_condition(pod, "Ready", now, value=True)


def crash(pod: dict[str, Any], key: str, container: str, now: datetime, *, code: int, message: str) -> None:
    """A container has ended with an error and is about to be started again; after five times it stays as it is."""
    before = pod["status"].get(key) or [{"restartCount": -1}]
    if before[0]["restartCount"] >= MOST_RESTARTS and not before[0].get("ready"):
        return
    set_condition(pod, "Ready", now, value=False)
    ended = {"exitCode": code, "message": message, "reason": "Error", "finishedAt": now.isoformat()}
    pod["status"][key] = [
        {
            "name": container,
            "ready": False,
            "restartCount": min(before[0]["restartCount"] + 1, MOST_RESTARTS),
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}},
            "lastState": {"terminated": ended},
            "image": "i",
        }
    ]
