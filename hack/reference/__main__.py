"""Write docs/reference, or with --check say which page is out of date."""

import sys

from generated import ROOT, write_or_check

from reference.api import api_page
from reference.commands import commands_page
from reference.conditions import conditions_page, events_page
from reference.values import settings_page, values_page

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
    return write_or_check({FOLDER / name: make() for name, make in PAGES.items()}, source="what it describes")


if __name__ == "__main__":
    sys.exit(main())
