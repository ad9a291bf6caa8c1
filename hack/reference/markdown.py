"""Tables and cells that stay what they are in Markdown."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table."""
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines]


def cell(text: str) -> str:
    """One line in which nothing ends the cell or opens a tag."""
    return " ".join(text.split()).replace("|", "&#124;").replace("<", "&lt;")


def code(text: str) -> str:
    """In backticks; empty stays empty."""
    return f"`{text}`" if text else ""
