"""The code blocks of the documentation, each with its page, its line and what a comment before it says of it."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL
)
_NOTE = re.compile(r"<!-- (?P<note>[^\n]*?) -->\n\Z")
_INDENTED = re.compile(r"(?:(?<=\n\n)|\A)(?P<text>(?: {4}\S[^\n]*\n(?:\n(?= {4}))?)+)")
SHELLS = ("bash", "console", "sh")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block; `note` is the text of an HTML comment right above it."""

    page: str
    line: int
    language: str
    text: str
    note: str = ""

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Everything that is written for users."""
    return [
        *sorted((ROOT / "docs").rglob("*.md")),
        *(ROOT / name for name in ("README.md", "charts/pilotfish/README.md")),
    ]


def read_blocks(page: Path) -> Iterator[Block]:
    """Fenced blocks, and blocks indented by four as `text`."""
    text = page.read_text(encoding="utf-8")
    name = str(page.relative_to(ROOT))
    for found in _FENCE.finditer(text):
        body = re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE)
        note = _NOTE.search(text[: found.start()])
        line = text.count("\n", 0, found.start()) + 1
        yield Block(page=name, line=line, language=found["language"], text=body, note=note["note"] if note else "")
    rest = _FENCE.sub(lambda found: "\n" * found[0].count("\n"), text)
    for found in _INDENTED.finditer(rest):
        yield Block(page=name, line=rest.count("\n", 0, found.start()) + 1, language="text", text=found["text"])


def blocks(*languages: str) -> list[Block]:
    """All blocks of these languages."""
    return [block for page in pages() for block in read_blocks(page) if block.language in languages]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command line as a shell would split it, without what goes to or comes from a file."""

    where: str
    words: tuple[str, ...]

    @property
    def line(self) -> str:
        return shlex.join(self.words)


def commands() -> list[Command]:
    """Every command in shell blocks, and after `$ ` or at the start of a line in indented ones."""
    return [command for block in blocks(*SHELLS, "text") for command in _commands(block)]


def _commands(block: Block) -> Iterator[Command]:
    shown = any(line.strip().startswith("$ ") for line in block.text.splitlines())
    joined = re.sub(r"\\\n\s*", " ", block.text)
    for line in _whole_lines(joined):
        told = line.strip()
        if shown and not told.startswith("$ "):
            continue
        yield from _split(told.removeprefix("$ "), block)


def _whole_lines(text: str) -> Iterator[str]:
    """Lines, with those of one quoted argument together."""
    kept = ""
    for line in text.splitlines():
        kept = f"{kept}\n{line}" if kept else line
        if kept.count("'") % 2 == 0:
            yield kept
            kept = ""
    if kept:
        yield kept


def _split(line: str, block: Block) -> Iterator[Command]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in (*lexer, ";"):
        if set(word) <= set("|;&<>"):
            if word.startswith((">", "<")):
                words.append(">")
                continue
            if words:
                yield Command(where=block.where, words=_without_redirects(words))
            words = []
        else:
            words.append(word)


def _without_redirects(words: list[str]) -> tuple[str, ...]:
    while ">" in words:
        at = words.index(">")
        words = [*words[:at], *words[at + 2 :]]
    return tuple(words)
