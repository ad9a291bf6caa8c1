"""One loaded Triton server over gRPC, asked like any other runner. Sends samples; changes nothing on the server.

What the server answers wrongly is an AnswerError. What keeps it from answering is an OptimizerError that may be tried
again. Neither names an address: both end up in conditions.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import numpy as np

from pilotfish.api.report import ModelSignature, OptimizerReason, TensorSpec, one_line
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.server_tls import ServerTls
from pilotfish.optimizer.tensors import Array, Arrays

VERSION = "1"
_LOOK_SECONDS = 5
_CALL_SECONDS = 120
# The call did not come through or was not carried out: it says nothing about the model.
_NOT_ANSWERED = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "ABORTED"})


class AnswerError(Exception):
    """The server answered with an error."""


class TritonRunner:
    """A model in a server at `address` (host:port), in plain without `tls`. `who` names it in words: `pod 1 of 2`."""

    runtime = "triton"

    def __init__(
        self, address: str, *, model: str, signature: ModelSignature, who: str, tls: ServerTls | None = None
    ) -> None:
        from tritonclient import grpc

        self._grpc = grpc
        credentials, arguments = (None, None) if tls is None else tls.channel()
        self._client = grpc.InferenceServerClient(address, creds=credentials, channel_args=arguments)
        self._model, self._signature, self._who = model, signature, who

    def __enter__(self) -> Self:
        """The open connection."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self._client.close()

    def ready(self) -> bool:
        """Whether the server says that it has loaded and warmed up the model."""
        from tritonclient.utils import InferenceServerException

        try:
            return bool(self._client.is_model_ready(self._model, VERSION, client_timeout=_LOOK_SECONDS))
        except InferenceServerException:
            return False

    def max_batch_size(self) -> int:
        """Samples that one request may hold, as the loaded configuration says; 0 where requests are not batched."""
        with self._calling():
            found = self._client.get_model_config(self._model, VERSION, client_timeout=_CALL_SECONDS)
        return int(found.config.max_batch_size)

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """One call.

        Raises:
            AnswerError: the server answered with an error.
            OptimizerError: it did not answer.
        """
        given = [self._input(spec, inputs[spec.name]) for spec in self._signature.inputs]
        with self._calling():
            result = self._client.infer(self._model, given, model_version=VERSION, client_timeout=_CALL_SECONDS)
        answered = [tensor.name for tensor in result.get_response().outputs]
        scalars = {spec.name for spec in self._signature.outputs if not spec.shape}
        return {name: _without_unit(result.as_numpy(name), scalar=name in scalars) for name in answered}

    def _input(self, spec: TensorSpec, array: Array) -> Any:
        # Triton has no empty shape: a scalar travels as [1].
        sent = np.ascontiguousarray(array if spec.shape else array[..., np.newaxis])
        tensor = self._grpc.InferInput(spec.name, list(sent.shape), spec.dtype)
        tensor.set_data_from_numpy(sent)
        return tensor

    @contextmanager
    def _calling(self) -> Iterator[None]:
        from tritonclient.utils import InferenceServerException

        try:
            yield
        except InferenceServerException as error:
            code = str(error.status() or "").rpartition(".")[2]
            if code in _NOT_ANSWERED:
                raise OptimizerError(
                    OptimizerReason.VERIFICATION_ERROR, f"{self._who} did not answer ({code}); see its log"
                ) from error
            raise AnswerError(one_line(error.message() or "no reason given", limit=300)) from error


def _without_unit(array: Array, *, scalar: bool) -> Array:
    return array[..., 0] if scalar and array.ndim and array.shape[-1] == 1 else array
