"""Write the CRD, for crds/ and for the chart, from the contract's models; with --check say if both are up to date."""

import argparse
import sys
from pathlib import Path

import yaml

from pilotfish.api.base import GROUP, PLURAL
from pilotfish.api.crd import make_crd

ROOT = Path(__file__).resolve().parents[1]
FILES = tuple(ROOT / folder / f"{GROUP}_{PLURAL}.yaml" for folder in ("crds", "charts/pilotfish/files"))
HEADER = "# Made by hack/crd.py from operator/pilotfish/api; change it there.\n"


def crd_yaml() -> str:
    """The CRD as YAML text."""
    return HEADER + "---\n" + yaml.safe_dump(make_crd(), sort_keys=False, allow_unicode=True, width=112)


def main() -> int:
    """Write or check the file; 1 when the check finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail when the file differs")
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
