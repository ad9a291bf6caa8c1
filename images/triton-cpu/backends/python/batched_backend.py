"""What the Python-based backends of this image share: config, batches, errors.

Lies beside the stub in `backends/python`, which Triton puts on the path of every Python-based backend. Knows no
runtime: a backend gives it `load` and `run`. Opens nothing but the one model file of the version that Triton asks for.
"""

import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class LoadError(Exception):
    """The model cannot be served: one line that says why."""


class BatchedBackend:
    """Serves one model instance: requests of one call that fit together run as one batch.

    A subclass sets `file_name` and `thread_parameters`, and implements `load` and `run`.
    """

    file_name = ""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model file. Any failure leaves the model not ready, with one line in the log."""
        self.name = args["model_name"]
        config = json.loads(args["model_config"])
        self.batched = config["max_batch_size"] > 0
        self.inputs = {item["name"]: item["data_type"] for item in config["input"]}
        self.outputs = {item["name"]: item["data_type"] for item in config["output"]}
        self.dims = {item["name"]: [int(d) for d in item["dims"]] for item in config["input"] + config["output"]}
        self.parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        file_name = config.get("default_model_filename") or self.file_name
        path = Path(args["model_repository"]) / args["model_version"] / file_name
        start = time.monotonic()
        try:
            self._check(path)
            self.load(path)
        except Exception as error:  # noqa: BLE001 -- whatever a runtime raises for a bad file becomes one line
            raise pb_utils.TritonModelException(f"cannot load model {self.name!r}: {_one_line(error)}") from None
        seconds = time.monotonic() - start
        pb_utils.Logger.log_info(f"{args['model_instance_name']}: {file_name} loaded in {seconds:.2f} s")

    def load(self, path: Path) -> None:
        """Open the model file and check the config's tensors against it."""
        raise NotImplementedError

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Every output of the config by name, for inputs that may be several requests' along dimension 0."""
        raise NotImplementedError

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response for each request, in order.

        Raises when all of them failed: Triton counts a response that holds an error among the successes, and only a
        call that raises among the failures. Where some succeeded, their answers matter more than the count.
        """
        responses: list[Any] = [None] * len(requests)
        groups: dict[Any, list[tuple[int, dict[str, np.ndarray]]]] = defaultdict(list)
        for index, request in enumerate(requests):
            if request.is_cancelled():
                responses[index] = _failure("the client went away", pb_utils.TritonError.CANCELLED)
                continue
            feeds = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
            missing = sorted(set(self.inputs) - set(feeds))
            if missing:
                responses[index] = _failure(f"model {self.name!r} needs input {missing[0]!r}")
                continue
            groups[self._group_key(index, feeds)].append((index, feeds))
        for members in groups.values():
            wanted = [requests[index].requested_output_names() for index, _ in members]
            answers = self._answer([feeds for _, feeds in members], wanted)
            for (index, _), answer in zip(members, answers, strict=True):
                responses[index] = answer
        failures = [response.error().message() for response in responses if response.has_error()]
        if failures and len(failures) == len(responses) and not all(r.is_cancelled() for r in requests):
            raise pb_utils.TritonModelException("; ".join(dict.fromkeys(failures)))
        return responses

    def thread_count(self, parameter: str) -> int:
        """The number in a config parameter; 0, the runtime's own choice, when it is not set."""
        text = self.parameters.get(parameter, "0")
        try:
            count = int(text)
        except ValueError:
            raise LoadError(f"parameter {parameter!r} is {text!r}; write a whole number") from None
        if count < 0:
            raise LoadError(f"parameter {parameter!r} is {count}; write 0 or more")
        return count

    def _check(self, path: Path) -> None:
        if not path.is_file():
            raise LoadError(f"{path.parent.name}/{path.name} is missing from the model repository")
        for name, data_type in {**self.inputs, **self.outputs}.items():
            if data_type in {"TYPE_STRING", "TYPE_BF16"}:
                raise LoadError(f"tensor {name!r} has {data_type}, which this image does not serve")

    def _group_key(self, index: int, feeds: dict[str, np.ndarray]) -> Any:
        if not self.batched:
            return index
        return tuple((name, feeds[name].shape[1:]) for name in sorted(feeds))

    def _answer(self, batch: list[dict[str, np.ndarray]], wanted: list[list[str]]) -> list[Any]:
        try:
            outputs = self._run_batch(batch)
        except Exception as error:  # noqa: BLE001 -- one bad request must not end the server
            failure = f"model {self.name!r} failed: {_one_line(error)}"
            return [_failure(failure) for _ in batch]
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor(name, answer[name]) for name in names])
            for answer, names in zip(outputs, wanted, strict=True)
        ]

    def _run_batch(self, batch: list[dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
        if len(batch) == 1:
            answer = self.run(batch[0])
            return [{name: np.require(array, requirements="C") for name, array in answer.items()}]
        first = next(iter(self.inputs))
        rows = [len(feeds[first]) for feeds in batch]
        joined = self.run({name: np.concatenate([feeds[name] for feeds in batch]) for name in self.inputs})
        for name, array in joined.items():
            if array.shape[:1] != (sum(rows),):
                raise ValueError(f"output {name!r} has shape {list(array.shape)} for a batch of {sum(rows)}")
        cuts = np.cumsum(rows)[:-1]
        parts = {name: np.split(array, cuts) for name, array in joined.items()}
        return [
            {name: np.require(pieces[member], requirements="C") for name, pieces in parts.items()}
            for member in range(len(batch))
        ]


def check_names(kind: str, wanted: set[str], found: set[str], *, file_name: str) -> None:
    """Raise LoadError when the config and the file do not name the same tensors."""
    for name in sorted(wanted - found):
        raise LoadError(f"config.pbtxt names {kind} {name!r} but {file_name} has {', '.join(sorted(found))}")


def _failure(message: str, code: Any = None) -> Any:
    error = pb_utils.TritonError(message) if code is None else pb_utils.TritonError(message, code)
    return pb_utils.InferenceResponse(output_tensors=[], error=error)


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)[:600] or type(error).__name__
