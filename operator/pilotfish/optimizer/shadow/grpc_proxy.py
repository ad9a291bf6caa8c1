"""gRPC: every call to the stable revision and its answer back, message by message, undecoded; a sample is copied.

Messages are held whole, as gRPC has it. A single call that no server took is tried at another one.
"""

from collections.abc import AsyncIterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import grpc
import grpc.aio

from pilotfish.optimizer.shadow.answers import read_grpc
from pilotfish.optimizer.shadow.comparing import Comparer, FailedError, Read, Sample, TooLargeError
from pilotfish.optimizer.shadow.upstreams import Upstream, Upstreams

INFER = "/inference.GRPCInferenceService/ModelInfer"
_STREAMS = frozenset({"/inference.GRPCInferenceService/ModelStreamInfer", "/grpc.health.v1.Health/Watch"})
_TRIES = 2
# No more: a request that ends servers must not end all of them.
_UNLIMITED = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
)
CHANNEL_OPTIONS = (*_UNLIMITED, ("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))
SERVER_OPTIONS = (
    *_UNLIMITED,
    # Like Triton's own: long-lived clients are spread anew. Without it one would stay with the shadow.
    ("grpc.max_connection_age_ms", 10_000),
    ("grpc.max_connection_age_grace_ms", 30_000),
    ("grpc.so_reuseport", 0),
)
# Of the transport; the channel sets its own.
_OWN = ("grpc-", "user-agent", "te", "content-type", ":")


class GrpcProxy(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Takes any method."""

    def __init__(self, upstreams: Upstreams, comparer: Comparer) -> None:
        self._upstreams, self._comparer = upstreams, comparer
        self._limits = comparer.limits
        self._channels: dict[str, grpc.aio.Channel] = {}

    def service(self, handler_call_details: Any) -> Any:
        """The way a method is passed on: one message can be sent again, a stream goes through as it flows."""
        method = handler_call_details.method
        if method in _STREAMS:
            return grpc.stream_stream_rpc_method_handler(partial(self._stream, method))
        return grpc.unary_unary_rpc_method_handler(partial(self._call, method))

    async def close(self) -> None:
        """End all connections to servers."""
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()

    async def _call(self, method: str, request: bytes, context: Any) -> bytes:
        self._comparer.counts.requests += 1
        tried: frozenset[str] = frozenset()
        problem: tuple[Any, str, Any] = (grpc.StatusCode.UNAVAILABLE, "shadow: no server of this model is ready", ())
        for _ in range(_TRIES):
            chosen = self._upstreams.choose(but=tried)
            if chosen is None:
                break
            side, host = chosen
            call = self._channel(side.target(host)).unary_unary(method)(
                request, timeout=self._patience(context), metadata=_passed(context.invocation_metadata())
            )
            try:
                answer: bytes = await call
            except grpc.aio.AioRpcError as error:
                problem = (error.code(), error.details() or "", _passed(error.trailing_metadata()))
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    break
                tried |= {host}
                continue
            await context.send_initial_metadata(_passed(await call.initial_metadata()))
            context.set_trailing_metadata(_passed(await call.trailing_metadata()))
            if method == INFER:
                self._sample(request, answer, side)
            return answer
        await context.abort(*problem)
        raise AssertionError  # abort raises

    async def _stream(self, method: str, requests: AsyncIterator[bytes], context: Any) -> None:
        self._comparer.counts.requests += 1
        chosen = self._upstreams.choose()
        if chosen is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "shadow: no server of this model is ready")
            return
        side, host = chosen
        call = self._channel(side.target(host)).stream_stream(method)(
            requests, timeout=self._patience(context), metadata=_passed(context.invocation_metadata())
        )
        try:
            await context.send_initial_metadata(_passed(await call.initial_metadata()))
            async for message in call:
                await context.write(message)
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details() or "", _passed(error.trailing_metadata()))
        finally:
            call.cancel()
        context.set_trailing_metadata(_passed(await call.trailing_metadata()))

    def _sample(self, request: bytes, answer: bytes, side: Upstream) -> None:
        if side is not self._upstreams.stable or not self._upstreams.candidate.hosts:
            return
        sample: Sample | None = self._comparer.choose()
        with sample or nullcontext():
            if sample is None:
                return
            if len(request) > self._limits.request_bytes:
                self._comparer.counts.dropped += 1
                return
            sample.keep(answer)
            sample.compare(read_grpc, partial(self._copy, request))

    async def _copy(self, request: bytes) -> Read:
        """The same message to the candidate."""
        host = self._upstreams.candidate.pick()
        if host is None:
            raise FailedError
        channel = self._channel(self._upstreams.candidate.target(host))
        try:
            answer: bytes = await channel.unary_unary(INFER)(request, timeout=self._limits.candidate)
        except grpc.aio.AioRpcError:
            raise FailedError from None
        if len(answer) > self._limits.answer_bytes:
            raise TooLargeError
        return partial(read_grpc, answer)

    def _channel(self, target: str) -> grpc.aio.Channel:
        if target not in self._channels:
            self._channels[target] = grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)
        return self._channels[target]

    def _patience(self, context: Any) -> float:
        """Seconds that the client still waits."""
        left: float | None = context.time_remaining()
        return self._limits.answer if left is None else min(left, self._limits.answer)


def _passed(metadata: Any) -> tuple[tuple[str, str | bytes], ...]:
    return tuple((key, value) for key, value in metadata or () if not key.startswith(_OWN))
