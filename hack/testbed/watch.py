"""Following one ModelDeployment the way a person would: a line for every change, never a silent quarter of a minute."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from testbed.kubectl import Kubectl, Timeout

POLL_SECONDS = 1.0
HEARTBEAT_SECONDS = 15.0


def follow_until_ready(
    kubectl: Kubectl, name: str, *, namespace: str, say: Callable[[str], None], seconds: float = 600
) -> Mapping[str, Any]:
    """Print phase and the Ready condition's sentence as they change; the object once it is ready.

    Raises:
        Timeout: it did not become ready within `seconds`.
    """
    started = spoken = time.monotonic()
    last = ""
    while True:
        body = kubectl.get("modeldeployment", name, namespace=namespace) or {}
        ready, line = _summary(name, body)
        now = time.monotonic()
        if line != last or now - spoken > HEARTBEAT_SECONDS:
            say(
                line
                + ("" if line != last else f"  ({now - started:.0f} s so far)")
                + _progress(kubectl, name, namespace)
            )
            last, spoken = line, now
        if ready:
            return body
        if now - started > seconds:
            raise Timeout(f"{name} was not ready within {seconds:.0f} s: {line}")
        time.sleep(POLL_SECONDS)


def _summary(name: str, body: Mapping[str, Any]) -> tuple[bool, str]:
    status = body.get("status", {})
    conditions = {condition["type"]: condition for condition in status.get("conditions", ())}
    ready = conditions.get("Ready", {})
    current = ready.get("observedGeneration") == body.get("metadata", {}).get("generation")
    sentence = ready.get("message", "waiting for the operator") if current else "waiting for the operator"
    return current and ready.get("status") == "True", f"{name}: {status.get('phase', 'Pending')}: {sentence}"


def _progress(kubectl: Kubectl, name: str, namespace: str) -> str:
    selector = f"pilotfish.dev/name={name},pilotfish.dev/component=optimize"
    pods = [pod for pod in kubectl.list("pods", namespace=namespace, selector=selector) if _runs(pod)]
    if not pods:
        return ""
    log = kubectl.run("logs", pods[-1]["metadata"]["name"], "-n", namespace, "-c", "optimize", "--tail=1")
    return f"\n           {log.strip()}" if log.strip() else ""


def _runs(pod: Mapping[str, Any]) -> bool:
    statuses = pod.get("status", {}).get("containerStatuses", ())
    return any("running" in status.get("state", {}) for status in statuses)
