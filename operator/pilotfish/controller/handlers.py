"""kopf at the rim: every event of a ModelDeployment is told to the cache, and nothing else happens here.

Only `on.event` handlers: they add no finalizer and no annotation to anything. Children come by `adapters.reflector`.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import kopf

from pilotfish.adapters.connection import Credentials
from pilotfish.api.base import API_VERSION, GROUP, KIND, PLURAL, VERSION
from pilotfish.controller.watching import Logins
from pilotfish.ports import Body


def make_registry(
    *,
    heard: Callable[[Body], object],
    heard_gone: Callable[[Body], object],
    login: Callable[[], Awaitable[Credentials]],
) -> kopf.OperatorRegistry:
    """All handlers.

    heard and heard_gone get each ModelDeployment that the watch delivers, login says who we are.
    """
    registry = kopf.OperatorRegistry()
    logins = Logins(login)

    @kopf.on.login(registry=registry, id="authenticate")
    async def authenticate(**_: Any) -> kopf.ConnectionInfo:
        return await logins()

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def deployment_changed(event: Mapping[str, Any], **_: Any) -> None:
        tell = heard_gone if event["type"] == "DELETED" else heard
        tell({"apiVersion": API_VERSION, "kind": KIND, **event["object"]})

    return registry
