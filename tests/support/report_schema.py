"""docs/report.schema.json as other programs use it: every report that a test makes is held against it."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

FILE = Path(__file__).resolve().parents[2] / "docs" / "report.schema.json"


@cache
def validator() -> Draft202012Validator:
    """The committed schema, itself checked."""
    schema = json.loads(FILE.read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def check_report(artifact: Path) -> dict[str, Any]:
    """An artifact's report.json, valid and with its page beside it."""
    report: dict[str, Any] = json.loads((artifact / "report.json").read_text())
    validator().validate(report)
    assert (artifact / "report.html").read_text().rstrip().endswith("</html>")
    return report
