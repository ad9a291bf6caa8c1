"""A client that asks a served model all the time and counts: who answered, what failed, what was wrong.

Runs inside the cluster (tritonclient and numpy are all it needs). Three connections, each the way real clients do it:
HTTP kept alive and renewed every few seconds (Triton never ends one itself, so a client that keeps it for ever loses
the request during which its pod goes), HTTP with a new connection for each request, and one long-lived gRPC channel.
Every second it prints one JSON line of totals, and a last one when it is told to stop.

cases.npz holds `input:<name>` arrays and, for each version v of the model, `expected:<v>:<output>` arrays.
"""

import argparse
import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from tritonclient.utils import np_to_triton_dtype

PAUSE_SECONDS = 0.02
HTTP_RENEWAL_SECONDS = 5.0
TIMEOUT_SECONDS = 10
TOLERANCE = 5e-3
KEPT_ERRORS = 5

Arrays = Mapping[str, np.ndarray]


class Totals:
    """Counts of all connections together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._errors: list[str] = []

    def add(self, key: str) -> None:
        """Count one."""
        with self._lock:
            self._counts[key] += 1

    def fail(self, kind: str, error: Exception) -> None:
        """Count one failed request and keep the first few sentences."""
        with self._lock:
            self._counts["failed"] += 1
            if len(self._errors) < KEPT_ERRORS:
                self._errors.append(f"{kind}: {type(error).__name__}: {error}"[:300])

    def line(self, *, done: bool) -> str:
        """The totals as one JSON line."""
        with self._lock:
            return json.dumps({"done": done, **dict(sorted(self._counts.items())), "errors": self._errors})


def answered_by(answer: Arrays, expected: Mapping[str, Arrays]) -> str:
    """The version whose recorded outputs the answer equals within the tolerance, or `wrong`."""
    for version, outputs in expected.items():
        if all(np.allclose(answer[name], value, rtol=TOLERANCE, atol=TOLERANCE) for name, value in outputs.items()):
            return version
    return "wrong"


def ask(module: Any, connection: Any, model: str, inputs: Arrays, outputs: tuple[str, ...]) -> dict[str, np.ndarray]:
    """One request over either protocol; the two client modules have the same calls."""
    tensors = []
    for name, value in inputs.items():
        tensor = module.InferInput(name, list(value.shape), np_to_triton_dtype(value.dtype))
        tensor.set_data_from_numpy(value)
        tensors.append(tensor)
    result = connection.infer(model, tensors, outputs=[module.InferRequestedOutput(name) for name in outputs])
    return {name: result.as_numpy(name) for name in outputs}


def http_connection(host: str) -> Any:
    """One HTTP connection, kept alive."""
    timeouts = {"connection_timeout": TIMEOUT_SECONDS, "network_timeout": TIMEOUT_SECONDS}
    return httpclient.InferenceServerClient(f"{host}:8000", **timeouts)


def loop(kind: str, host: str, request: Callable[[Any], str], totals: Totals, stop: threading.Event) -> None:
    """Ask until told to stop; a failed request costs the connection, as in any client."""
    connection, opened = None, 0.0
    while not stop.is_set():
        try:
            if connection is None:
                grpc, opened = kind == "grpc", time.monotonic()
                connection = grpcclient.InferenceServerClient(f"{host}:8001") if grpc else http_connection(host)
            totals.add(request(connection))
            totals.add(kind)
        except Exception as error:  # noqa: BLE001 - every kind of failure counts
            totals.fail(kind, error)
            connection = None
        if kind == "http-new" or (kind == "http" and time.monotonic() - opened > HTTP_RENEWAL_SECONDS):
            connection = None
        stop.wait(PAUSE_SECONDS)


def main() -> None:
    """Ask until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--model", required=True)
    options = parser.parse_args()

    with np.load(Path(__file__).with_name("cases.npz")) as file:
        arrays = dict(file)
    inputs = {key.removeprefix("input:"): value for key, value in arrays.items() if key.startswith("input:")}
    expected: dict[str, dict[str, np.ndarray]] = {}
    for key, value in arrays.items():
        if key.startswith("expected:"):
            _, version, output = key.split(":", 2)
            expected.setdefault(version, {})[output] = value
    outputs = tuple(next(iter(expected.values())))

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    totals = Totals()
    threads = []
    for kind in ("http", "http-new", "grpc"):
        module = grpcclient if kind == "grpc" else httpclient

        def request(connection: Any, module: Any = module) -> str:
            return answered_by(ask(module, connection, options.model, inputs, outputs), expected)

        threads.append(threading.Thread(target=loop, args=(kind, options.host, request, totals, stop)))
    for thread in threads:
        thread.start()
    while not stop.is_set():
        print(totals.line(done=False), flush=True)
        stop.wait(1)
    for thread in threads:
        thread.join(TIMEOUT_SECONDS)
    print(totals.line(done=True), flush=True)


if __name__ == "__main__":
    main()
