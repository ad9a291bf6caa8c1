"""What is read is printed as a table for people, or as JSON or YAML for machines. Pure."""

import json
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer
import yaml


class Output(StrEnum):
    """How something is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


class TextOutput(StrEnum):
    """How something is printed that is no list and no document of the cluster."""

    TEXT = "text"
    JSON = "json"


How = Annotated[Output, typer.Option("--output", "-o", help="How to print it.")]


def as_document(value: Any, output: Output) -> str:
    """JSON or YAML without a line end; TABLE is not for documents."""
    if output is Output.JSON:
        return json.dumps(value, indent=2, ensure_ascii=False)
    # JSON knows no tuples, no enums, and so no tags of Python.
    plain = json.loads(json.dumps(value))
    return str(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)).rstrip()


def as_columns(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """One line for each row; the last column may be as long as it is."""
    lines = [tuple(titles), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    padded = ("   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)
