"""Tokens that are replaced and expire under a running operator, as a pod's do: nobody notices.

The operator reads its token from a file, as in a pod, and talks to a real API server, which refuses the old one: because
the Secret that it is bound to is gone, or because its ten minutes are over.
"""

import asyncio
import os
import secrets
import sys
import time
from collections import Counter

import pytest
from kubernetes.aio.config import incluster_config

from pilotfish.core.objects import ref_of
from support.faults.kept import Kept, ThreadLife
from support.faults.workloads import is_ready, make
from support.helm import NAMESPACE
from support.kube import make_object

pytestmark = [pytest.mark.apiserver, pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(1200)]


class Account:
    """The operator's service account as a pod has it: a file with a token, which is bound to a Secret."""

    def __init__(self, kubectl, path):
        self.kubectl, self.path, self.bound = kubectl, path, []

    def replace(self, duration="10m"):
        """What the kubelet does; returns the Secret that the new token is bound to."""
        name = f"token-{secrets.token_hex(4)}"
        self.kubectl.run("create", "secret", "generic", name, "-n", NAMESPACE)
        bound = ("--bound-object-kind=Secret", f"--bound-object-name={name}", f"--duration={duration}")
        token = self.kubectl.run("create", "token", "pilotfish", "-n", NAMESPACE, *bound).strip()
        self.path.write_text(token)
        self.bound.append(name)

    def revoke_older(self):
        """All but the present token."""
        for name in self.bound[:-1]:
            self.kubectl.run("delete", "secret", name, "-n", NAMESPACE, "--ignore-not-found")


@pytest.fixture
def account(prepared, tmp_path):
    return Account(prepared.kubectl, tmp_path / "token")


async def until(what, probe, *, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not await probe():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.2)


async def live_through(stage, account, monkeypatch, host, *, rotations, expire):
    """`expire` lets the older tokens end, with a new one in place."""
    namespace = await stage.slots.get()
    proxy = await asyncio.to_thread(host.open, stage.prepared.account)
    name = f"tokens-{secrets.token_hex(3)}"
    await asyncio.to_thread(account.replace)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(account.path))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(host.certificate.certificate))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(proxy._port))
    settings = {"namespace": namespace, "watch_namespaces": namespace}

    async def is_served():
        return is_ready(await stage.admin.get(ref_of(make_object(name, namespace))))

    try:
        async with Kept(lambda: ThreadLife(None, **settings)) as kept:
            for number in range(rotations + 1):
                await stage.admin.apply(make_object(name, namespace, make(f"v{number % 3 + 1}")))
                await until("the model is served", is_served)
                if number < rotations:
                    await expire(account)
                    # Streams open again, with what kopf holds for our token.
                    await asyncio.to_thread(proxy.cut)
                    await asyncio.to_thread(proxy.mend)
            refused = Counter(
                f"{exchange.about.verb} {exchange.about.kind}{' watch' if exchange.about.watch else ''}"
                for exchange in proxy.trace.exchanges
                if exchange.code == 401
            )
            return kept.restarts, refused
    finally:
        await asyncio.to_thread(proxy.close)
        await stage.admin.delete(ref_of(make_object(name, namespace)))
        stage.slots.put_nowait(namespace)


async def test_tokens_that_are_revoked(stage, account, host, monkeypatch):
    async def expire(account):
        await asyncio.to_thread(account.replace)
        await asyncio.sleep(12)  # our requests have read the new one
        await asyncio.to_thread(account.revoke_older)
        await asyncio.sleep(12)  # the API server remembers for ten seconds what it has let in

    restarts, refused = await live_through(stage, account, monkeypatch, host, rotations=3, expire=expire)
    sys.stderr.write(f"\ntokens revoked 3 times: refused: {dict(refused)}, {restarts} restarts\n")
    assert refused, "nobody used an old token: nothing was tested"
    assert restarts == 0


@pytest.mark.timeout(7200)
async def test_tokens_of_ten_minutes(stage, account, host, monkeypatch):
    """PILOTFISH_ROTATIONS: how many expiries are lived through, ten minutes each."""
    rotations = int(os.environ.get("PILOTFISH_ROTATIONS", "2"))

    async def expire(account):
        await asyncio.sleep(480)  # the kubelet replaces a token after 80 % of its time
        await asyncio.to_thread(account.replace)
        await asyncio.sleep(140)

    restarts, refused = await live_through(stage, account, monkeypatch, host, rotations=rotations, expire=expire)
    sys.stderr.write(f"\n{rotations} tokens of 10 min expired: refused: {dict(refused)}, {restarts} restarts\n")
    assert refused
    assert restarts == 0
