"""kopf at the rim: every watch event becomes a key in the queue, and nothing else happens here.

Only `on.event` handlers: they add no finalizer and no annotation to anything.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import kopf

from pilotfish.adapters.connection import Credentials
from pilotfish.api.base import GROUP, PLURAL, VERSION
from pilotfish.controller.keys import Key, key_of, key_of_child
from pilotfish.controller.watching import Logins, children
from pilotfish.ports import Body


def make_registry(
    *,
    enqueue: Callable[[Key], None],
    saw: Callable[[Body], None],
    login: Callable[[], Awaitable[Credentials]],
    gateway_api: bool = False,
) -> kopf.OperatorRegistry:
    """All handlers.

    enqueue asks for a pass, saw hears of every body that a watch delivers, login says who we are.
    """
    registry = kopf.OperatorRegistry()
    logins = Logins(login)

    @kopf.on.login(registry=registry, id="authenticate")
    async def authenticate(**_: Any) -> kopf.ConnectionInfo:
        return await logins()

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def deployment_changed(body: Body, **_: Any) -> None:
        saw(body)
        enqueue(key_of(body))

    for resource in children(gateway_api=gateway_api):

        @kopf.on.event(*resource, registry=registry, id=f"{resource[2]}_changed")
        async def child_changed(body: Body, **_: Any) -> None:
            saw(body)
            key = key_of_child(body)
            if key is not None:
                enqueue(key)

    return registry
