"""What the operator's process asks of a real API server: counts of requests, never times. `make bench-operator` has more."""

import asyncio
import re
from collections import Counter

import pytest

from pilotfish.core.observed import watched_kinds
from pilotfish.names import MANAGED_BY
from support.kube import fresh_namespace, install_crd, kube_cluster, make_kubectl, make_object
from support.operator_process import install_rights, running_operator

pytestmark = [pytest.mark.apiserver, pytest.mark.slow]

NEW = 3
KINDS = {kind for _, kind in watched_kinds(gateway_api=False)}


def asked(operator):
    """By verb and kind; streams and the Lease left out."""
    found = Counter()
    for labels, count in re.findall(
        r"^pilotfish_api_requests_total\{(.*)\} (\S+)$", operator.get("/metrics"), re.MULTILINE
    ):
        label = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if label["kind"] not in {"Lease", "APIResourceList"} and label["verb"] != "WATCH":
            found[label["verb"], label["kind"]] += int(float(count))
    return found


async def until_quiet(operator, *, at_least):
    """What was asked once it has not changed for three seconds and is that much."""
    async with asyncio.timeout(120):
        before = asked(operator)
        while True:
            await asyncio.sleep(3)
            now = asked(operator)
            if now == before and now.total() >= at_least:
                return now
            before = now


@pytest.mark.timeout(600)
async def test_a_new_object_costs_six_requests_at_most_and_a_restart_one_list_per_kind(api_server, tmp_path):
    kubectl = make_kubectl(api_server)
    install_crd(kubectl)
    account = install_rights(kubectl, tmp_path)
    with fresh_namespace(kubectl) as namespace:
        settings = {"watch_namespaces": namespace, "resync": 600}
        async with kube_cluster(api_server) as cluster:
            with running_operator(account, **settings) as operator:
                operator.wait_until_said("lease acquired")
                lists = await until_quiet(operator, at_least=len(KINDS))
                assert lists == {("GET", kind): 1 for kind in KINDS}
                for number in range(NEW):
                    await cluster.apply(make_object(f"digits-{number}", namespace))
                children = 3  # NetworkPolicy, PersistentVolumeClaim, Job
                cost = await until_quiet(operator, at_least=lists.total() + NEW * (children + 2)) - lists
                assert {key for key in cost if key[0] == "GET"} == set()
                assert cost["PATCH", "Job"] == NEW
                assert cost.total() <= 6 * NEW, cost
                operator.stop()
            with running_operator(account, **settings) as operator:
                operator.wait_until_said("lease acquired")
                assert await until_quiet(operator, at_least=len(KINDS)) == lists
        labels = {MANAGED_BY: "pilotfish"}
        async with kube_cluster(api_server) as cluster:
            jobs = await cluster.list(api_version="batch/v1", kind="Job", namespace=namespace, labels=labels)
        assert len(jobs) == NEW
