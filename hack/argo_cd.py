"""Write integrations/argo-cd/actions.yaml: Argo CD wants discovery and all actions in one text.

The Lua files are the source; they lie as Argo CD's own repository keeps them.
"""

import sys
from typing import Any

import yaml
from generated import ROOT, write_or_check

FOLDER = ROOT / "integrations" / "argo-cd"
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
    """Write or check the file; 1 when the check finds a difference."""
    return write_or_check({ACTIONS: make_actions()}, source="integrations/argo-cd/actions")


if __name__ == "__main__":
    sys.exit(main())
