"""A view drawn with rich. No decisions here."""

from rich.text import Text
from rich.tree import Tree

from pilotfish.cli.tree import Health, Node

_MARKS = {
    Health.GOOD: ("✔", "green"),
    Health.BUSY: ("◷", "yellow"),
    Health.BAD: ("✖", "red"),
    Health.PLAIN: ("", "default"),
}


def draw(node: Node) -> Tree:
    """The tree."""
    tree = Tree(_line(node), guide_style="dim")
    _grow(tree, node)
    return tree


def _grow(tree: Tree, node: Node) -> None:
    for child in node.children:
        _grow(tree.add(_line(child)), child)


def _line(node: Node) -> Text:
    mark, colour = _MARKS[node.health]
    line = Text(node.title, style="bold" if node.children else "")
    if node.state or mark:
        line.append(f"  {' '.join(part for part in (mark, node.state) if part)}", style=colour)
    if node.detail:
        line.append(f"  {node.detail}", style="dim" if node.health is not Health.BAD else "")
    return line
