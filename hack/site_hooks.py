"""What the site needs beyond mkdocs.yml: patterns in its nav. Called by mkdocs, imports nothing of it."""

from pathlib import Path
from typing import Any


def on_config(config: dict[str, Any]) -> dict[str, Any]:
    """Put the pages that match in place of each pattern, by name, and none that the nav names already."""
    docs = Path(config["docs_dir"])
    named = set(_pages(config["nav"]))
    config["nav"] = _expand(config["nav"], docs, named)
    return config


def _pages(nav: Any) -> list[str]:
    """Every path in the nav, patterns too."""
    if isinstance(nav, str):
        return [nav]
    members = nav.values() if isinstance(nav, dict) else nav
    return [page for member in members for page in _pages(member)]


def _expand(nav: list[Any], docs: Path, named: set[str]) -> list[Any]:
    expanded: list[Any] = []
    for entry in nav:
        if isinstance(entry, str) and "*" in entry:
            found = sorted(str(page.relative_to(docs)) for page in docs.glob(entry))
            expanded += [page for page in found if page not in named]
        elif isinstance(entry, dict):
            expanded.append(
                {name: _expand(it, docs, named) if isinstance(it, list) else it for name, it in entry.items()}
            )
        else:
            expanded.append(entry)
    return expanded
