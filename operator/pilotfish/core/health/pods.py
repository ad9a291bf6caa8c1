"""What pods and counters say beside the verdicts: restarts since a moment, the share of requests reached. Pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from pilotfish.core.health.samples import Health
from pilotfish.core.health.window import look
from pilotfish.core.objects import Body, leaves


def achieved_share(
    health: Health,
    candidate: str,
    stable: str | None,
    *,
    window: timedelta,
    now: datetime,
    since: datetime | None = None,
) -> float | None:
    """Percent of the requests in the window that the candidate had; None without requests.

    What was before `since`, such as another share, does not count.
    """
    earliest = now - 2 * window
    since = earliest if since is None else max(since, earliest)
    ours = look(health, candidate, since=since, length=window, now=now).requests
    theirs = 0 if stable is None else look(health, stable, since=since, length=window, now=now).requests
    return 100 * ours / (ours + theirs) if ours + theirs else None


def restarts_since(pods: Iterable[Body], since: datetime) -> int:
    """Restarts of the pods' containers.

    Kubernetes keeps the time of the last end only: of a container that ended since then all restarts count, at least
    one. Pods that are on their way out do not count, nor do those that a node took down.
    """
    return sum(
        _restarts(container, since)
        for pod in pods
        if not leaves(pod)
        for container in (pod.get("status") or {}).get("containerStatuses") or ()
    )


def _restarts(container: Mapping[str, Any], since: datetime) -> int:
    count = container.get("restartCount")
    counted = count if isinstance(count, int) else 0
    if _ended_at(container.get("state"), since):
        return max(0, counted) + 1
    return max(1, counted) if _ended_at(container.get("lastState"), since) else 0


def _ended_at(state: Any, since: datetime) -> bool:
    finished = ((state or {}).get("terminated") or {}).get("finishedAt")
    try:
        moment = datetime.fromisoformat(str(finished))
    except ValueError:
        return False
    # Kubernetes writes whole seconds.
    return moment.tzinfo is not None and moment >= since.replace(microsecond=0)
