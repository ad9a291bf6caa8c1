"""`pilotfish predict`: ask a served model, with plain JSON in and labels out."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from pilotfish.cli.output import TextOutput
from pilotfish.cli.port_forward import NoAnswer, open_port
from pilotfish.cli.session import Place, Session, run
from pilotfish.cli.tensors import BadInput, Tensor, make_example, make_request, read_answer
from pilotfish.cli.terminal import Context, Kubeconfig, Name, Namespace, fail, out, say
from pilotfish.core import Observed
from pilotfish.core.objects import condition_is_true, name_of
from pilotfish.core.scope import find_stable, read_records, read_status
from pilotfish.resources.revision import RevisionRecord

HTTP_PORT = 8000
SHOWN = 8
"""Values of an answer that are printed where it is not a list of scores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Whom the request goes to."""

    namespace: str
    model: str
    pod: str
    record: RevisionRecord


def predict(
    name: Name,
    input_file: Annotated[
        Path | None, typer.Option("--input", "-i", help="A file with JSON, or - for standard input.")
    ] = None,
    *,
    example: Annotated[bool, typer.Option("--example", help="Print an input file to start from.")] = False,
    revision: Annotated[
        str | None, typer.Option(help="Hash of a revision that has pods. Default: the stable one.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="A file with the name of each class, one a line.")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many of the highest scores are printed.")] = 3,
    output: Annotated[TextOutput, typer.Option("--output", "-o", help="How to print the answer.")] = TextOutput.TEXT,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Ask the model: JSON in, its answer and the time that it took out.

    The input is an object of input names, or the values alone where the model has one input. A pod of the revision is
    asked through a port-forward, so neither Service nor gateway is in the way.
    """
    if (input_file is None) == (not example):
        raise typer.BadParameter("give --input FILE, or --example to see what a file looks like")
    place = Place(namespace=namespace, kubeconfig=kubeconfig, context=context)
    asked = run(place, name, lambda session: find_served(session, revision))
    if input_file is None:
        typer.echo(json.dumps(make_example(asked.record.signature)))
        return
    try:
        words = labels.read_text(encoding="utf-8").splitlines() if labels else []
        request = make_request(_read(input_file), asked.record.signature)
        with open_port(
            namespace=asked.namespace, pod=asked.pod, port=HTTP_PORT, kubeconfig=kubeconfig, context=context
        ) as port:
            reply = port.post(f"/v2/models/{asked.model}/infer", request)
        answers = read_answer(reply.body)
    except (BadInput, NoAnswer) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
    milliseconds = reply.seconds * 1e3
    if output is TextOutput.JSON:
        typer.echo(json.dumps(_as_wire(asked, answers, milliseconds)))
        return
    for answer in answers:
        _show(answer, words, top=top, batched=asked.record.signature.batched)
    served = f"revision {asked.record.revision} ({asked.record.artifact.variant}), pod {asked.pod}"
    say(f"{served}: {milliseconds:.1f} ms through the port-forward")


async def find_served(session: Session, revision: str | None) -> Asked:
    """A ready pod of a revision, by default of the stable one; ends the command when there is none."""
    observed = await session.look()
    records = read_records(observed)
    wanted = revision or find_stable(observed, read_status(observed), records)
    if wanted is None:
        fail(f"{session.name} has no revision that serves yet; see pilotfish get {session.name}")
    if wanted not in records:
        fail(f"revision {wanted} of {session.name} is not on record; on record: {', '.join(records) or 'none'}")
    pod = _ready_pod(observed, wanted)
    if pod is None:
        fail(f"no pod of revision {wanted} is ready; see pilotfish get {session.name}")
    return Asked(namespace=session.namespace, model=session.name, pod=pod, record=records[wanted])


def _ready_pod(observed: Observed, revision: str) -> str | None:
    ready = (pod for pod in observed.pods_of_revision(revision) if condition_is_true(pod, "Ready"))
    return next((name_of(pod) for pod in ready), None)


def _read(path: Path) -> str:
    return sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")


def _as_wire(asked: Asked, answers: tuple[Tensor, ...], milliseconds: float) -> dict[str, Any]:
    return {
        "revision": asked.record.revision,
        "variant": asked.record.artifact.variant,
        "pod": asked.pod,
        "milliseconds": round(milliseconds, 3),
        "outputs": [{"name": a.name, "datatype": a.dtype, "shape": a.shape, "data": a.data} for a in answers],
    }


def _show(answer: Tensor, words: list[str], *, top: int, batched: bool) -> None:
    rows = answer.rows() if batched else (answer.data,)
    is_scores = answer.dtype.startswith("FP") and len(answer.shape) == 1 + batched and len(rows[0]) > 1
    table = Table("sample", "class" if is_scores else "values", box=None, title=answer.name, title_justify="left")
    for index, row in enumerate(rows):
        if is_scores:
            ranked = sorted(range(len(row)), key=lambda i: row[i], reverse=True)[:top]
            told = ", ".join(f"{words[i] if i < len(words) else i} ({row[i]:.4g})" for i in ranked)
        else:
            told = ", ".join(str(value) for value in row[:SHOWN]) + (" …" if len(row) > SHOWN else "")
        table.add_row(str(index), told)
    out.print(table)
