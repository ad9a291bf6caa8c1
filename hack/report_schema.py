"""Write the JSON schema of report.json from the contract, or with --check say whether it is up to date."""

import json
import sys

from generated import ROOT, write_or_check

from pilotfish.api.report_schema import make_report_schema

FILE = ROOT / "docs" / "report.schema.json"


def schema_text() -> str:
    """The schema as text, the same bytes for the same models."""
    return json.dumps(make_report_schema(), indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    """Write or check the file; 1 when the check finds a difference."""
    return write_or_check({FILE: schema_text()}, source="operator/pilotfish/api")


if __name__ == "__main__":
    sys.exit(main())
