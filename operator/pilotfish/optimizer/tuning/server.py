"""The Triton that is measured: loads one model in one configuration after the other over its model control API.

The model travels in a folder that both see, or in the request itself.
"""

import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pilotfish.api.report import one_line
from pilotfish.optimizer.tuning.search import PointError, TuningError

_CONFIG = "config.pbtxt"
_LOAD_SECONDS = 300
_LOOK_SECONDS = 5
_UNLOAD_SECONDS = 60
_POLL_SECONDS = 0.05
_MOST_IN_REQUEST = 1_800_000_000


@dataclass(slots=True, kw_only=True)
class ControlledServer:
    """A server at `address` (host:port) with explicit model control. A context manager: leaving it unloads the model.

    `files` are the model's own by their path in its folder: `1/model.onnx`. `folder` is the server's model repository;
    None: it does not see our files.
    """

    address: str
    name: str
    files: Mapping[str, Path]
    folder: Path | None
    start_seconds: float = 60.0
    clock: Callable[[], float] = time.monotonic
    _client: Any = field(init=False)
    _loaded: bool = False

    def __enter__(self) -> Self:
        """Connect; the server may still be on its way.

        Raises:
            TuningError: it does not answer in time, or the model is too large to travel.
        """
        from tritonclient import grpc

        self._client = grpc.InferenceServerClient(self.address)
        self._wait_live()
        if self.folder is not None:
            self._fill(self.folder / self.name)
        elif sum(path.stat().st_size for path in self.files.values()) > _MOST_IN_REQUEST:
            raise TuningError("the model is too large to be sent to a Triton that does not share a folder with us")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave nothing behind."""
        with suppress(PointError):
            self._unload()
        self._client.close()
        if self.folder is not None:
            shutil.rmtree(self.folder / self.name, ignore_errors=True)

    def version(self) -> str:
        """Name and version; raises PointError."""
        found = self._ask(lambda: self._client.get_server_metadata(client_timeout=_LOOK_SECONDS))
        return f"{found.name} {found.version}"

    def load(self, config: str) -> None:
        """Serve the model with this config.pbtxt alone.

        Raises:
            PointError: the server does not load it.
        """
        self._wait_live()  # a server that died of the last configuration is started again
        self._unload()
        if self.folder is not None:
            (self.folder / self.name / _CONFIG).write_text(config)
            self._ask(lambda: self._client.load_model(self.name, client_timeout=_LOAD_SECONDS))
        else:
            files = {f"file:{name}": path.read_bytes() for name, path in self.files.items()}
            told = _as_json(config)
            self._ask(
                lambda: self._client.load_model(self.name, config=told, files=files, client_timeout=_LOAD_SECONDS)
            )
        self._loaded = True

    def _unload(self) -> None:
        if not self._loaded:
            return
        self._loaded = False
        self._ask(lambda: self._client.unload_model(self.name, client_timeout=_LOOK_SECONDS))
        deadline = self.clock() + _UNLOAD_SECONDS
        while self._is_there():
            if self.clock() >= deadline:
                raise PointError(f"Triton did not unload the one before within {_UNLOAD_SECONDS} s")
            time.sleep(_POLL_SECONDS)

    def _is_there(self) -> bool:
        """The index does not list a model that travelled in a request, and readiness ends before the unloading does."""
        if self._ask(lambda: self._client.is_model_ready(self.name, client_timeout=_LOOK_SECONDS)):
            return True
        index = self._ask(lambda: self._client.get_model_repository_index(client_timeout=_LOOK_SECONDS))
        states = {m.name: (m.state, m.reason) for m in index.models}
        state, reason = states.get(self.name, ("UNAVAILABLE", "unloaded"))
        return state not in {"", "UNAVAILABLE"} or (state == "UNAVAILABLE" and reason not in {"", "unloaded"})

    def _wait_live(self) -> None:
        from tritonclient.utils import InferenceServerException

        deadline = self.clock() + self.start_seconds
        while True:
            try:
                if self._client.is_server_live(client_timeout=_LOOK_SECONDS):
                    return
            except InferenceServerException:
                self._loaded = False
            if self.clock() >= deadline:
                raise TuningError(f"no Triton answered at {self.address} within {self.start_seconds:g} s")
            time.sleep(_POLL_SECONDS)

    def _ask(self, call: Callable[[], Any]) -> Any:
        from tritonclient.utils import InferenceServerException

        try:
            return call()
        except InferenceServerException as error:
            raise PointError(one_line(error.message() or "no reason given", limit=300)) from error

    def _fill(self, target: Path) -> None:
        if target.exists():
            shutil.rmtree(target)
        for name, path in self.files.items():
            copy = target / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def _as_json(config: str) -> str:
    from google.protobuf import json_format, text_format
    from tritonclient.grpc import model_config_pb2

    parsed = text_format.Parse(config, model_config_pb2.ModelConfig())
    return str(json_format.MessageToJson(parsed, preserving_proto_field_name=True))
