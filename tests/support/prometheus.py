"""A real Prometheus on this machine's loopback: it scrapes what the chart's PodMonitors pick and evaluates its rules.

What stands in a PodMonitor is carried over as the Prometheus operator does it, so that a wrong selector, port or label
shows here. What is not installed is an error, never a skip.
"""

import json
import math
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from testbed.kubectl import Kubectl, KubectlError, wait_for

from support.helm import of_kind, render
from support.promtool import find_program
from support.rules import rendered_rules
from support.triton import free_port

WITH_MONITORS = ("--set", "metrics.podMonitor.enabled=true")
Config = dict[str, Any]


def pod_monitors() -> tuple[Mapping[str, Any], ...]:
    """The chart's: of the operator and of Triton pods."""
    return tuple(of_kind(render(*WITH_MONITORS), "PodMonitor"))


def label_name(text: str) -> str:
    """A label's name as Prometheus can have it."""
    return "".join(letter if letter.isalnum() else "_" for letter in text)


def listed_scrape(monitor: Mapping[str, Any], *, targets: Path) -> Config:
    """A scrape config over a file of targets, which `list_targets` writes."""
    return {**_scrape(monitor), "file_sd_configs": [{"files": [str(targets)], "refresh_interval": "1s"}]}


Pod = tuple[str, str, str, Mapping[str, str]]
"""Address, namespace, name, labels."""


def list_targets(path: Path, monitor: Mapping[str, Any], pods: Sequence[Pod]) -> None:
    """Address, namespace, name and labels of pods; labels are carried over as the monitor says."""
    spec, (endpoint,) = monitor["spec"], monitor["spec"]["podMetricsEndpoints"]
    bodies = []
    for address, namespace, name, labels in pods:
        assert spec["selector"]["matchLabels"].items() <= labels.items(), "the monitor does not pick this pod"
        told = {label_name(key): labels[key] for key in spec.get("podTargetLabels", ())}
        named = {"namespace": namespace, "pod": name, "endpoint": endpoint["port"]}
        bodies.append({"targets": [address], "labels": {**named, **told}})
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(bodies))
    fresh.rename(path)


def find_pods(kubectl: Kubectl, monitor: Mapping[str, Any]) -> list[Pod]:
    """What the monitor picks of a cluster's running pods."""
    spec, (endpoint,) = monitor["spec"], monitor["spec"]["podMetricsEndpoints"]
    anywhere = (spec.get("namespaceSelector") or {}).get("any")
    where = ("--all-namespaces",) if anywhere else ("-n", monitor["metadata"]["namespace"])
    selector = ",".join(f"{key}={value}" for key, value in spec["selector"]["matchLabels"].items())
    found = []
    for body in json.loads(kubectl.run("get", "pods", *where, "-l", selector, "-o", "json"))["items"]:
        meta, status = body["metadata"], body["status"]
        ports = [port for one in body["spec"]["containers"] for port in one.get("ports", ())]
        numbers = [port["containerPort"] for port in ports if port.get("name") == endpoint["port"]]
        if status.get("podIP") and status["phase"] not in ("Failed", "Succeeded"):
            found += [(f"{status['podIP']}:{n}", meta["namespace"], meta["name"], meta["labels"]) for n in numbers]
    return found


@contextmanager
def finding_pods(kubectl: Kubectl, folder: Path) -> Iterator[list[Config]]:
    """Scrape configs of the chart's PodMonitors over the pods of a cluster, as they come and go.

    Debian's Prometheus is built without Kubernetes: this looks in its stead, once a second.
    """
    files = {monitor["metadata"]["name"]: folder / f"{monitor['metadata']['name']}.json" for monitor in pod_monitors()}
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(1):
            for monitor in pod_monitors():
                with suppress(KubectlError):  # the next look is soon
                    list_targets(files[monitor["metadata"]["name"]], monitor, find_pods(kubectl, monitor))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield [listed_scrape(monitor, targets=files[monitor["metadata"]["name"]]) for monitor in pod_monitors()]
    finally:
        stop.set()
        thread.join()


def _scrape(monitor: Mapping[str, Any]) -> Config:
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    return {
        "job_name": f"{monitor['metadata']['namespace']}/{monitor['metadata']['name']}",
        "metrics_path": endpoint["path"],
        "honor_labels": endpoint.get("honorLabels", False),
    }


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running server."""

    url: str
    started: float

    def get(self, path: str, **query: object) -> Any:
        """`data` of its API's answer. Raises AssertionError with its error."""
        address = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(address, timeout=20) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{query or path}: {json.load(error)['error']}") from None

    def history(self, expr: str, *, step: float = 1) -> list[dict[str, Any]]:
        """Series of a query since the server started, each with `metric` and `values`; NaN is left out."""
        found = self.get("query_range", query=expr, start=self.started, end=time.time(), step=step)["result"]
        series = [
            {"metric": one["metric"], "values": [(at, float(v)) for at, v in one["values"] if not math.isnan(float(v))]}
            for one in found
        ]
        return [one for one in series if one["values"]]

    def now(self, expr: str) -> float | None:
        """The only number of an instant query."""
        found = self.get("query", query=expr)["result"]
        return float(found[0]["value"][1]) if found else None

    def rules(self) -> list[dict[str, Any]]:
        """Every rule with its health and its last error."""
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]


@contextmanager
def running_prometheus(
    folder: Path, scrapes: Sequence[Config], *, address: str = "127.0.0.1", port: int | None = None
) -> Iterator[Prometheus]:
    """Looks every second and evaluates the chart's rules as often; killed at the end."""
    port = port or free_port()
    rules, config = folder / "rules.yaml", folder / "prometheus.yaml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "pilotfish", "rules": list(rendered_rules())}]}))
    often = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config.write_text(yaml.safe_dump({"global": often, "rule_files": [str(rules)], "scrape_configs": list(scrapes)}))
    command = [find_program("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    command.append(f"--web.listen-address={address}:{port}")
    log = folder / "prometheus.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream)
    try:
        server = Prometheus(f"http://{address}:{port}", time.time())
        wait_for(
            "Prometheus is ready", lambda: _is_ready(server.url), seconds=30, found=lambda: log.read_text()[-2000:]
        )
        yield server
    finally:
        process.kill()
        process.wait()


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
