"""Write crds/ from the contract's models, or with --check say whether it is up to date. Same input, same bytes."""

import argparse
import sys
from pathlib import Path

import yaml

from pilotfish.api.base import GROUP, PLURAL
from pilotfish.api.crd import make_crd

FILE = Path(__file__).resolve().parents[1] / "crds" / f"{GROUP}_{PLURAL}.yaml"
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
        FILE.write_text(text, encoding="utf-8")
        return 0
    if not FILE.exists() or FILE.read_text(encoding="utf-8") != text:
        print(f"{FILE.name} differs from operator/pilotfish/api: run python hack/crd.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
