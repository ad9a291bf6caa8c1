"""A real Prometheus on this machine's loopback: it scrapes what the chart's PodMonitors pick and evaluates its rules.

What stands in a PodMonitor is carried over as the Prometheus operator does it, so that a wrong selector, port or label
shows here. What is not installed is an error, never a skip.
"""

import json
import math
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from testbed.kubectl import wait_for

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


def discovered_scrape(monitor: Mapping[str, Any], *, kubeconfig: Path) -> Config:
    """A scrape config with the monitor's selector, port and labels over the pods of a cluster."""
    spec, (endpoint,) = monitor["spec"], monitor["spec"]["podMetricsEndpoints"]
    meta = "__meta_kubernetes_pod_"
    keep = [
        {"action": "keep", "source_labels": [f"{meta}label_{label_name(key)}"], "regex": value}
        for key, value in spec["selector"]["matchLabels"].items()
    ]
    keep.append({"action": "keep", "source_labels": [f"{meta}container_port_name"], "regex": endpoint["port"]})
    keep.append({"action": "drop", "source_labels": [f"{meta}phase"], "regex": "Failed|Succeeded"})
    told = {"namespace": "__meta_kubernetes_namespace", "pod": f"{meta}name", "container": f"{meta}container_name"}
    told |= {label_name(key): f"{meta}label_{label_name(key)}" for key in spec.get("podTargetLabels", ())}
    copy = [{"source_labels": [source], "target_label": target} for target, source in told.items()]
    fixed = [{"target_label": "endpoint", "replacement": endpoint["port"]}]
    where: Config = {"role": "pod", "kubeconfig_file": str(kubeconfig)}
    if not (spec.get("namespaceSelector") or {}).get("any"):
        where["namespaces"] = {"names": [monitor["metadata"]["namespace"]]}
    return {**_scrape(monitor), "kubernetes_sd_configs": [where], "relabel_configs": [*keep, *copy, *fixed]}


def listed_scrape(monitor: Mapping[str, Any], *, targets: Path) -> Config:
    """The same over a file of targets, for where there are no pods: `list_targets` writes it."""
    return {**_scrape(monitor), "file_sd_configs": [{"files": [str(targets)], "refresh_interval": "1s"}]}


def list_targets(
    path: Path, monitor: Mapping[str, Any], pods: Sequence[tuple[str, str, str, Mapping[str, str]]]
) -> None:
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
