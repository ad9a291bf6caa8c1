"""Write integrations/argo-cd/actions.yaml: Argo CD wants discovery and all actions in one text. `hack/argo_cd.py`.

The Lua files are the source; they lie as Argo CD's own repository keeps them.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parent.parent / "integrations" / "argo-cd"
ACTIONS = FOLDER / "actions.yaml"
HEAD = "# Made from actions/ by hack/argo_cd.py; edit the Lua files.\n"


class _Literal(yaml.SafeDumper):
    """Writes texts of several lines as they are."""


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Literal.add_representer(str, _represent)


def make_actions() -> str:
    """The text of actions.yaml."""
    folder = FOLDER / "actions"
    content: dict[str, Any] = {
        "discovery.lua": (folder / "discovery.lua").read_text(encoding="utf-8"),
        "definitions": [
            {"name": path.parent.name, "action.lua": path.read_text(encoding="utf-8")}
            for path in sorted(folder.glob("*/action.lua"))
        ],
    }
    return HEAD + yaml.dump(content, Dumper=_Literal, sort_keys=False, width=1000)


def main() -> int:
    """Write the file."""
    ACTIONS.write_text(make_actions(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
