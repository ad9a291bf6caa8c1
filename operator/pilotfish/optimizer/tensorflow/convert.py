"""To ONNX through the tf2onnx command line, run inside the child; names put right and the file read back."""

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnx

from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.tensorflow.originals import first_line

OPSET = 18


def to_onnx(source: Sequence[str], target: Path, *, names: Mapping[str, str], called: str) -> None:
    """Convert what the command line arguments `source` name.

    Raises:
        OptimizerError: ConversionFailed with the operators that have no counterpart.
    """
    from tf2onnx import convert

    with _complaints() as complaints, _command_line("--output", str(target), "--opset", str(OPSET), *source):
        try:
            convert.main()
        except (Exception, SystemExit) as error:  # its command line ends the process on some failures
            words = first_line(error) if isinstance(error, Exception) else "it gave up"
            raise _failed(called, complaints or [words]) from error
    try:  # it keeps operators that it does not know, under their own names
        onnx.checker.check_model(str(target))
    except (OSError, onnx.checker.ValidationError) as error:
        raise _failed(called, complaints or [first_line(error)]) from error
    if names:
        onnx.save(rename(onnx.load(str(target)), names), str(target))  # in the order of `names`


def rename(model: onnx.ModelProto, names: Mapping[str, str]) -> onnx.ModelProto:
    """The model with other names for its inputs and outputs, in their order; a name taken inside makes way."""
    graph = model.graph
    moved = {old: new for old, new in names.items() if old != new}
    taken = {name for node in graph.node for name in (*node.input, *node.output)} | {t.name for t in graph.initializer}
    moved |= {new: f"{new}__inside" for new in moved.values() if new in taken and new not in moved}
    for node in graph.node:
        for ends in (node.input, node.output):
            for index, name in enumerate(ends):
                ends[index] = moved.get(name, name)
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = moved.get(value.name, value.name)
    order = {name: index for index, name in enumerate(names.values())}
    for values in (graph.input, graph.output):
        values.sort(key=lambda value: order.get(value.name, len(order)))
    return model


def _failed(called: str, complaints: Sequence[str]) -> OptimizerError:
    words = "; ".join(dict.fromkeys(complaints[:3]))
    return OptimizerError(
        Reason.CONVERSION_FAILED,
        f"tf2onnx cannot convert {called}: {words}; replace what it names, or export it as ONNX yourself",
    )


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """What tf2onnx logs as errors: which operator it does not know stands there and not in the exception."""
    found: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage().splitlines()[0][:200])

    handler = Keep(level=logging.ERROR)
    logger = logging.getLogger("tf2onnx")
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)


@contextmanager
def _command_line(*arguments: str) -> Iterator[None]:
    before = sys.argv
    sys.argv = ["tf2onnx.convert", *arguments]
    try:
        yield
    finally:
        sys.argv = before
