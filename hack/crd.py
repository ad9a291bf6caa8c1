"""Write the CRD and the chart's copy of it from the contract, or with --check say whether they are up to date."""

import argparse
import sys
from pathlib import Path

import yaml

from pilotfish.api.base import GROUP, PLURAL
from pilotfish.api.crd import make_crd

ROOT = Path(__file__).resolve().parents[1]
NAME = f"{GROUP}_{PLURAL}.yaml"
# The chart needs its own: helm packs nothing from outside the chart's folder.
FILES = (ROOT / "crds" / NAME, ROOT / "charts" / "pilotfish" / "files" / NAME)
HEADER = "# Made by hack/crd.py from operator/pilotfish/api; change it there.\n"


def crd_yaml() -> str:
    """The CRD as YAML text, the same bytes for the same models."""
    return HEADER + "---\n" + yaml.safe_dump(make_crd(), sort_keys=False, allow_unicode=True, width=112)


def main() -> int:
    """Write or check the files; 1 when the check finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail when a file differs")
    text = crd_yaml()
    if not parser.parse_args().check:
        for file in FILES:
            file.write_text(text, encoding="utf-8")
        return 0
    stale = [file for file in FILES if not file.exists() or file.read_text(encoding="utf-8") != text]
    for file in stale:
        print(f"{file.relative_to(ROOT)} differs from operator/pilotfish/api: run hack/generate", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
