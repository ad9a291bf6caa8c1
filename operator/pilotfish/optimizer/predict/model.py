"""Triton's Python backend: plain JSON to the model's tensors, the model's answer to labels.

Told by the parameter `predict` of its config.pbtxt. Asks the model beside it in the same server, so that requests of
`/predict` and of the open inference protocol share one queue and one batcher. Opens no connection.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import predict_tensors as tensors
import triton_python_backend_utils as pb_utils
from predict_gauges import Gauges
from predict_statistics import Statistics, make_baseline
from predict_texts import Tokenizer, TokenizerError

GOLDEN = "golden.npz"
TOKENIZER = "tokenizer.json"


class TritonPythonModel:
    """One instance; Triton hands it the requests that have come together."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the settings. Raises when the server lacks what they need."""
        config = json.loads(args["model_config"])
        self.settings = json.loads(config["parameters"]["predict"]["string_value"])
        self.members = [item["name"] for item in config["input"]]
        self.types = {item["name"]: item["data_type"] for item in config["output"]}
        if self.settings["picture"] and not tensors.can_open_pictures():
            raise pb_utils.TritonModelException(
                "spec.serving.predict.input is Image and this server's image has no Pillow; use an image with it"
            )
        self.tokenizer = self._load_tokenizer(Path(args["model_repository"])) if "text" in self.settings else None
        golden = Path(args["model_repository"]) / args["model_version"] / GOLDEN
        known = self._baseline(golden) if self.settings["drift"] and golden.is_file() else None
        self.statistics = Statistics(rate=self.settings["sampleRate"], baseline=known)
        self.gauges = Gauges(pb_utils, self.settings)

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response for each request; those that are right travel to the model as one batch where they fit."""
        answers: list[Any] = [None] * len(requests)
        groups: dict[Any, list[tuple[int, dict[str, Any]]]] = {}
        for index, request in enumerate(requests):
            try:
                feeds = self._feeds(request)
            except tensors.BadRequestError as error:
                answers[index] = _failure(str(error))
                continue
            alike = tuple(array.shape[1:] for array in feeds.values()) if self.settings["batched"] else index
            groups.setdefault(alike, []).append((index, feeds))
        for members in groups.values():
            for (index, _), answer in zip(members, self._ask([feeds for _, feeds in members]), strict=True):
                answers[index] = answer
        return answers

    def _load_tokenizer(self, own: Path) -> Tokenizer:
        """It lies in the folder of the model that takes the tokens."""
        try:
            return Tokenizer(own.with_name(self.settings["model"]) / TOKENIZER, self.settings)
        except TokenizerError as error:
            raise pb_utils.TritonModelException(str(error)) from None

    def _baseline(self, golden: Path) -> dict[str, Any]:
        """What the golden set's figures say of inputs, classes and confidence."""
        with np.load(golden) as figures:
            means = {name: figures[f"input {name}"] for name in self.settings["inputs"]}
            scores = figures.get(f"output {self.settings['outputs'][0]}")
        known = scores is not None and self.settings["classes"] is not None
        said = tensors.make_scores(scores, len(scores), self.settings) if known else None
        made: dict[str, Any] = make_baseline(means, said)
        return made

    def _feeds(self, request: Any) -> dict[str, Any]:
        given = {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.members}
        if self.tokenizer is not None:
            (texts,) = given.values()
            return dict(self.tokenizer.make_feeds(texts))
        return dict(tensors.make_feeds(given, self.settings))

    def _ask(self, batch: list[dict[str, Any]]) -> list[Any]:
        """The answers to requests whose inputs have the same shapes."""
        joined = {name: np.concatenate([feeds[name] for feeds in batch]) for name in batch[0]}
        wanted = self.settings["outputs"] if self.settings["classes"] is None else self.settings["outputs"][:1]
        reply = pb_utils.InferenceRequest(
            model_name=self.settings["model"],
            requested_output_names=wanted,
            inputs=[pb_utils.Tensor(name, array) for name, array in joined.items()],
        ).exec()
        if reply.has_error():
            return [_failure(reply.error().message()) for _ in batch]
        outputs = {name: pb_utils.get_output_tensor_by_name(reply, name).as_numpy() for name in wanted}
        rows = [len(next(iter(feeds.values()))) for feeds in batch]
        answered = tensors.make_answer(outputs, sum(rows) if self.settings["batched"] else 1, self.settings)
        if self.statistics.take(joined, outputs, answered.scores, batched=self.settings["batched"]):
            self.gauges.show(self.statistics)
        if not self.settings["batched"]:
            return [self._response(answered.members, slice(None))]
        ends = np.cumsum(rows)
        return [
            self._response(answered.members, slice(end - count, end)) for end, count in zip(ends, rows, strict=True)
        ]

    def _response(self, members: dict[str, Any], cut: slice) -> Any:
        made = [
            pb_utils.Tensor(
                name, np.require(array[cut], dtype=pb_utils.triton_string_to_numpy(self.types[name]), requirements="C")
            )
            for name, array in members.items()
        ]
        return pb_utils.InferenceResponse(made)


def _failure(message: str) -> Any:
    error = pb_utils.TritonError(message, pb_utils.TritonError.INVALID_ARG)
    return pb_utils.InferenceResponse(output_tensors=[], error=error)
