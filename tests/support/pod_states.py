"""What the scheduler and the kubelet write into a pod. Each function changes the pod that it gets."""

from typing import Any


def bind(pod: dict[str, Any]) -> None:
    """The scheduler has found a place."""
    pod["spec"]["nodeName"] = "node"
    set_condition(pod, "PodScheduled", value=True)


def leave_pending(pod: dict[str, Any]) -> None:
    """The scheduler has found none."""
    message = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: not helpful."
    set_condition(pod, "PodScheduled", value=False, reason="Unschedulable", message=message)


def set_condition(pod: dict[str, Any], kind: str, value: bool, **more: str) -> None:
    """Set one condition."""
    conditions = pod["status"].setdefault("conditions", [])
    conditions[:] = [c for c in conditions if c["type"] != kind]
    conditions.append({"type": kind, "status": str(value), **more})


def end(pod: dict[str, Any], container: str, *, code: int, message: str, reason: str = "Completed") -> None:
    """A container has ended, and with it the pod."""
    state = {"terminated": {"exitCode": code, "message": message, "reason": reason if code in {0, 137} else "Error"}}
    key = "initContainerStatuses" if container == "fetch" else "containerStatuses"
    pod["status"][key] = [{"name": container, "ready": False, "restartCount": 0, "state": state, "image": "i"}]
    pod["status"]["phase"] = "Succeeded" if code == 0 else "Failed"


def crash(pod: dict[str, Any], key: str, container: str, *, code: int, message: str) -> None:
    """A container has ended with an error and is about to be started again."""
    before = pod["status"].get(key) or [{"restartCount": -1}]
    ended = {"exitCode": code, "message": message, "reason": "Error"}
    pod["status"][key] = [
        {
            "name": container,
            "ready": False,
            "restartCount": min(before[0]["restartCount"] + 1, 5),
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}},
            "lastState": {"terminated": ended},
            "image": "i",
        }
    ]
