"""Specs that stories ask for, by what becomes of them."""

from typing import Any


def make_wanted(version: str = "v1", *, gpus: int = 1, **serving: Any) -> dict[str, Any]:
    """A small spec for one version of the model; `serving` holds further fields of spec.serving."""
    return {
        "model": {"uri": f"s3://models/digits/{version}/"},
        "serving": {"gpus": {"count": gpus}, **serving},
    }


def uri(version: str) -> str:
    """Where that version lies."""
    return f"s3://models/digits/{version}/"
