"""Reading manifests: files, folders or standard input, several documents each."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pilotfish.api.base import GROUP, KIND


class Unreadable(Exception):
    """The input cannot be read; the sentence names it."""


@dataclass(frozen=True, slots=True)
class Document:
    """One ModelDeployment and the file it comes from."""

    source: str
    body: dict[str, Any]


def read_documents(path: Path) -> tuple[Document, ...]:
    """All ModelDeployments of a file, of a folder's .yaml, .yml and .json files, or of standard input (`-`).

    Documents of other kinds are passed over. Raises Unreadable, also when there is none.
    """
    found = tuple(document for source, text in _texts(path) for document in _parse(source, text))
    if not found:
        raise Unreadable(f"{path}: no {KIND} in it")
    return found


def without_nulls(value: Any) -> Any:
    """As the API server reads it: `serving:` with nothing behind it says nothing. A factory's arguments may be null."""
    if not isinstance(value, Mapping):
        return value
    return {
        key: child if key == "arguments" else without_nulls(child) for key, child in value.items() if child is not None
    }


def _texts(path: Path) -> Iterator[tuple[str, str]]:
    if str(path) == "-":
        yield "standard input", sys.stdin.read()
        return
    suffixes = {".yaml", ".yml", ".json"}
    files = sorted(file for file in path.iterdir() if file.suffix in suffixes) if path.is_dir() else [path]
    for file in files:
        try:
            yield str(file), file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise Unreadable(f"{file}: {reason}") from error


def _parse(source: str, text: str) -> Iterator[Document]:
    try:
        for body in yaml.safe_load_all(text):
            if isinstance(body, dict) and _is_ours(body):
                yield Document(source, body)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        raise Unreadable(f"{where}: {getattr(error, 'problem', None) or error}") from error


def _is_ours(body: dict[str, Any]) -> bool:
    """Also one with a mistake in either word, so that lint can say so."""
    return body.get("kind") == KIND or str(body.get("apiVersion", "")).partition("/")[0] == GROUP
