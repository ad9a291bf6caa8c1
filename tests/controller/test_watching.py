"""What we ask of kopf, checked against the installed version."""

import asyncio
import dataclasses
import inspect
from itertools import islice, pairwise

import kopf
from kopf._cogs.structs.credentials import Vault

from pilotfish.adapters.connection import Credentials
from pilotfish.controller import watching
from pilotfish.controller.handlers import make_registry
from support.virtual_time import run_in_virtual_time


class Strict:
    """Stands for a settings block and refuses what the block does not have."""

    def __init__(self, block):
        object.__setattr__(self, "block", block)
        object.__setattr__(self, "assigned", {})

    def __getattr__(self, name):
        value = getattr(self.block, name)
        if dataclasses.is_dataclass(value):
            self.assigned.setdefault(name, Strict(value))
            return self.assigned[name]
        return value

    def __setattr__(self, name, value):
        assert name in {field.name for field in dataclasses.fields(self.block)}, f"kopf has no setting {name!r}"
        setattr(self.block, name, value)


def test_every_setting_exists_in_this_kopf(monkeypatch):
    """A dataclass takes any attribute silently; a renamed setting would be lost without a word."""
    real = kopf.OperatorSettings
    monkeypatch.setattr(kopf, "OperatorSettings", lambda: Strict(real()))
    watching.make_settings()


def test_server_timeout_is_whole_seconds():
    """It is sent as timeoutSeconds, which the API server reads as an integer."""
    assert isinstance(watching.make_settings().watching.server_timeout, int)


def test_kopf_copies_and_stores_nothing_of_an_object():
    """Its copies for comparing were a twentieth of the operator's CPU; `store` would write an annotation."""
    storage, patch = watching.make_settings().persistence.diffbase_storage, kopf.Patch()
    body = kopf.Body({"metadata": {"name": "digits"}, "spec": {"serving": {}}})
    essence = storage.build(body=body, extra_fields={("status",)})
    storage.store(body=body, patch=patch, essence=essence)
    assert (essence, storage.fetch(body=body), patch) == ({}, None, {})


def test_backoffs_never_end_and_can_be_walked_again():
    backoffs = watching.EndlessBackoffs()
    for _ in range(2):
        seconds = list(islice(backoffs, 1000))
        assert len(seconds) == 1000
        assert max(seconds) <= 40
        assert all(b > a for a, b in pairwise(seconds[:5]))


def test_only_event_handlers_are_used():
    """Create, update, delete handlers, timers and daemons would write finalizers and annotations."""
    source = inspect.getsource(make_registry)
    used = {line.split("kopf.on.")[1].split("(")[0] for line in source.splitlines() if "@kopf.on." in line}
    assert used == {"event", "login"}
    assert len(source.splitlines()) <= 80


def test_credentials_become_kopf_s():
    info = watching.connection_info(
        Credentials(
            server="https://x",
            ca_path="/ca",
            certificate_path=None,
            private_key_path=None,
            authorization="Bearer abc",
            verify=True,
        )
    )
    assert (info.server, info.scheme, info.token, info.insecure) == ("https://x", "Bearer", "abc", False)


def test_a_server_that_refuses_for_a_moment_what_is_valid_is_asked_again():
    """kopf remembers what was refused and gives up when it hears it once more."""
    tokens, given = iter(["a", "b", "b", "b", "c"]), []

    async def login():
        return Credentials(
            server="https://x",
            ca_path=None,
            certificate_path=None,
            private_key_path=None,
            authorization=f"Bearer {next(tokens)}",
            verify=True,
        )

    async def story():
        logins, now = watching.Logins(login), asyncio.get_running_loop().time
        vault, start = Vault(), now()
        for _ in range(3):
            info = await logins()
            given.append((info.token, now() - start))
            await vault.populate({"authenticate": info})
            assert not vault.is_empty()
            assert vault.select()[1].info is info
            vault._invalid["authenticate"] = [vault._current.pop("authenticate")]

    run_in_virtual_time(story())
    assert given == [("a", 0), ("b", 0), ("b", watching.RELOGIN)]
