"""Write the JSON schema of report.json from the contract, or with --check say whether it is up to date."""

import argparse
import json
import sys
from pathlib import Path

from pilotfish.api.report_schema import make_report_schema

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "docs" / "report.schema.json"


def schema_text() -> str:
    """The schema as text, the same bytes for the same models."""
    return json.dumps(make_report_schema(), indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    """Write or check the file; 1 when the check finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail when the file differs")
    text = schema_text()
    if not parser.parse_args().check:
        FILE.write_text(text, encoding="utf-8")
        return 0
    if FILE.exists() and FILE.read_text(encoding="utf-8") == text:
        return 0
    print(f"{FILE.relative_to(ROOT)} differs from operator/pilotfish/api: run hack/generate", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
