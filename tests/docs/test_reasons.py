"""docs/reasons.md explains every reason, and only those."""

import re
from pathlib import Path

from pilotfish.api.reasons import Reason

PAGE = Path(__file__).parents[2] / "docs" / "reasons.md"


def test_every_reason_is_explained_once():
    headings = re.findall(r"^### (\w+)$", PAGE.read_text(), flags=re.MULTILINE)
    assert sorted(headings) == sorted(reason.value for reason in Reason)
