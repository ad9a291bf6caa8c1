"""Write charts/pilotfish/files/dashboards, or with --check say whether it is up to date."""

import sys
from pathlib import Path

from generated import ROOT, write_or_check
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards.controller import make_controller
from dashboards.fleet import make_fleet
from dashboards.model import make_model

FILES = ROOT / "charts" / "pilotfish" / "files"


def make_files() -> dict[Path, str]:
    """Every dashboard's file and its text, the same bytes every time."""
    alerts = sorted(path.stem for path in (FILES / "rules").glob("*.yaml"))
    boards = {"fleet": make_fleet(alerts), "model": make_model(), "operator": make_controller()}
    encoder = JSONEncoder(indent=2, ensure_ascii=False)
    return {
        FILES / "dashboards" / f"{name}.json": encoder.encode(board.make()) + "\n" for name, board in boards.items()
    }


def main() -> int:
    """Write or check the files; 1 when the check finds a difference."""
    return write_or_check(make_files(), source="hack/dashboards")


if __name__ == "__main__":
    sys.exit(main())
