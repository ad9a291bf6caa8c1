"""A real Triton as the search sees it: opens points, proves those that compute otherwise, measures rounds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from pilotfish.api.model_config import ServingConfig
from pilotfish.api.report import ModelSignature
from pilotfish.api.tuning import Accelerator
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.tensors import Array, sample_count
from pilotfish.optimizer.triton_client import VERSION, AnswerError, TritonRunner
from pilotfish.optimizer.tuning.figures import Round
from pilotfish.optimizer.tuning.load import LoadPlan, Patience, drive
from pilotfish.optimizer.tuning.search import PointError
from pilotfish.optimizer.tuning.server import ControlledServer
from pilotfish.optimizer.tuning.settings import Setting

_DIFFERENT_REQUESTS = 16
_WARM_ROUND = LoadPlan(settle_seconds=0.0, seconds=0.05, min_requests=8, max_seconds=5.0)

Render = Callable[[ServingConfig], str]
Prove = Callable[[TritonRunner, Accelerator | None], str | None]
"""Compares the server's answers with the original's, with this accelerator: what is wrong, or None."""


@dataclass(slots=True, kw_only=True)
class TritonBench:
    """`render` makes config.pbtxt; `requests` are serialized single samples."""

    server: ControlledServer
    signature: ModelSignature
    render: Render
    prove: Prove
    requests: tuple[bytes, ...]
    gpu: bool = False
    inter_op_threads: int = 0
    plan: LoadPlan = field(default_factory=LoadPlan)
    patience: Patience = field(default_factory=Patience)
    _proven: set[Setting] = field(default_factory=set)

    def open(self, setting: Setting) -> None:
        """Serve this point and warm it up, in batches too.

        Raises:
            PointError: Triton does not load or serve it, or its accelerator makes its answers wrong.
        """
        self.server.load(self.render(setting.config(gpu=self.gpu, inter_op_threads=self.inter_op_threads)))
        if setting.accelerator is not None and setting not in self._proven:
            self.check(setting)
        for concurrency in (1, 2 * setting.instances + 2):
            drive(self.server.address, self.requests, concurrency=concurrency, plan=_WARM_ROUND)

    def check(self, setting: Setting) -> None:
        """Compare the answers of what is open; raises PointError where they are not the original's."""
        try:
            with TritonRunner(
                self.server.address, model=self.server.name, signature=self.signature, who="Triton"
            ) as runner:
                problem = self.prove(runner, setting.accelerator)
        except (AnswerError, OptimizerError) as error:
            raise PointError(str(error)) from error
        if problem:
            raise PointError(problem)
        self._proven.add(setting)

    def measure(self, concurrency: int) -> Round:
        """One round of load."""
        return drive(
            self.server.address, self.requests, concurrency=concurrency, plan=self.plan, patience=self.patience
        )


def make_requests(model: str, signature: ModelSignature, inputs: Mapping[str, Array]) -> tuple[bytes, ...]:
    """The first samples, each as one serialized request."""
    count = min(_DIFFERENT_REQUESTS, sample_count(dict(inputs)))
    return tuple(_request(model, signature, inputs, index) for index in range(count))


def _request(model: str, signature: ModelSignature, inputs: Mapping[str, Array], index: int) -> bytes:
    from tritonclient.grpc import service_pb2

    request = service_pb2.ModelInferRequest(model_name=model, model_version=VERSION)
    for spec in signature.inputs:
        sample = inputs[spec.name][index : index + 1] if signature.batched else inputs[spec.name][index]
        sent = np.ascontiguousarray(sample if spec.shape else np.asarray(sample)[..., np.newaxis])
        tensor = request.inputs.add()
        tensor.name, tensor.datatype = spec.name, spec.dtype
        tensor.shape.extend(sent.shape)
        request.raw_input_contents.append(sent.tobytes())
    return bytes(request.SerializeToString())
