"""A manifest as text, with a comment above each value. Pure."""

import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import yaml

from pilotfish.api.base import API_VERSION, KIND
from pilotfish.api.report import TensorSpec
from pilotfish.cli.init.choices import Because, human

if TYPE_CHECKING:
    from pilotfish.cli.init.look import Seen

WIDTH = 100


def make_manifest(name: str, spec: Mapping[str, Any], seen: "Seen", *, version: str) -> str:
    """The whole document. `spec` is a tree whose leaves are Because."""
    lines = [
        *_comment(_heading(seen, version), ""),
        *_comment(_tensors(seen), ""),
        f"apiVersion: {API_VERSION}",
        f"kind: {KIND}",
        "metadata:",
        *_value("name", name, "  "),
        "spec:",
        *_lines(spec, "  "),
    ]
    return "\n".join(lines) + "\n"


def _heading(seen: "Seen", version: str) -> str:
    what = "a folder" if seen.is_folder else "a file"
    of = f" ({seen.architecture})" if seen.architecture else ""
    packed = ", written by pilotfish.pack" if seen.is_packed else ""
    return f"Made by pilotfish {version} from {what} of {seen.format.value}{of}, {human(seen.size)}{packed}."


def _tensors(seen: "Seen") -> str:
    if seen.signature is None:
        return "What goes in and comes out is found by the optimization Job; this format is not opened here."
    told = f"In: {_listed(seen.signature.inputs)}."
    if seen.signature.outputs:
        told += f" Out: {_listed(seen.signature.outputs)}."
    shapes = "of one sample" if seen.signature.batched else "whole"
    return f"{told} Shapes are {shapes}; {seen.signature_from}."


def _listed(tensors: tuple[TensorSpec, ...]) -> str:
    shapes = ("x".join("any" if n < 0 else str(n) for n in t.shape) or "scalar" for t in tensors)
    return ", ".join(f"{t.name} {t.dtype} {shape}" for t, shape in zip(tensors, shapes, strict=True))


def _lines(tree: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, Because):
            yield from _comment(value.why, indent)
            yield from _value(key, value.value, indent)
        else:
            yield f"{indent}{key}:"
            yield from _lines(value, indent + "  ")


def _value(key: str, value: Any, indent: str) -> Iterator[str]:
    """On one line where that is short, as a block where it is not."""
    if isinstance(value, str):
        yield indent + yaml.safe_dump({key: value}, allow_unicode=True, width=10**6).rstrip()
        return
    flow = yaml.safe_dump([value], sort_keys=False, allow_unicode=True, width=10**6, default_flow_style=True).strip()
    if len(indent) + len(key) + len(flow) <= WIDTH:
        yield f"{indent}{key}: {flow[1:-1]}"
        return
    block = yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, width=10**6, default_flow_style=False)
    yield from (indent + line for line in block.splitlines())


def _comment(text: str, indent: str) -> Iterator[str]:
    # Names in a file are a stranger's: one that holds a line break must not begin a line of its own.
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    for line in textwrap.wrap(plain, WIDTH, break_long_words=False, break_on_hyphens=False):
        yield f"{indent}# {line}"
