"""Write the CRD and the chart's copy of it from the contract, or with --check say whether they are up to date."""

import sys

import yaml
from generated import ROOT, write_or_check

from pilotfish.api.base import GROUP, PLURAL
from pilotfish.api.crd import make_crd

NAME = f"{GROUP}_{PLURAL}.yaml"
# The chart needs its own: helm packs nothing from outside the chart's folder.
FILES = (ROOT / "crds" / NAME, ROOT / "charts" / "pilotfish" / "files" / NAME)
HEADER = "# Made by hack/crd.py from operator/pilotfish/api; change it there.\n"


def crd_yaml() -> str:
    """The CRD as YAML text, the same bytes for the same models."""
    return HEADER + "---\n" + yaml.safe_dump(make_crd(), sort_keys=False, allow_unicode=True, width=112)


def main() -> int:
    """Write or check the files; 1 when the check finds a difference."""
    return write_or_check(dict.fromkeys(FILES, crd_yaml()), source="operator/pilotfish/api")


if __name__ == "__main__":
    sys.exit(main())
