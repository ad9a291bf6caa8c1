"""Write docs/reference, or with --check say which page is out of date."""

import argparse
import sys
from pathlib import Path

from reference.api import api_page
from reference.commands import commands_page
from reference.conditions import conditions_page, events_page
from reference.values import settings_page, values_page

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "reference"
PAGES = {
    "api.md": api_page,
    "commands.md": commands_page,
    "conditions.md": conditions_page,
    "events.md": events_page,
    "settings.md": settings_page,
    "values.md": values_page,
}


def main() -> int:
    """Write or check the pages; 1 when the check finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail when a page differs")
    check = parser.parse_args().check
    stale = 0
    for name, make in PAGES.items():
        file, text = FOLDER / name, make()
        if file.exists() and file.read_text(encoding="utf-8") == text:
            continue
        if check:
            print(f"{file.relative_to(ROOT)} differs from what it describes: run hack/generate", file=sys.stderr)
            stale = 1
        else:
            FOLDER.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
    return stale


if __name__ == "__main__":
    sys.exit(main())
