"""Write charts/pilotfish/files/dashboards, or with --check say whether it is up to date."""

import argparse
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards.controller import make_controller
from dashboards.fleet import make_fleet
from dashboards.model import make_model

ROOT = Path(__file__).resolve().parents[2]
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
    """Write or check; 1 when the check finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail when a file differs")
    check = parser.parse_args().check
    stale = [path for path, text in make_files().items() if not path.exists() or path.read_text("utf-8") != text]
    for path in stale:
        if check:
            print(f"{path.relative_to(ROOT)} differs from hack/dashboards: run hack/generate", file=sys.stderr)
            continue
        path.parent.mkdir(exist_ok=True)
        path.write_text(make_files()[path], encoding="utf-8")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
