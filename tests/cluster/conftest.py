"""hack/cluster is not installed: its package is imported from where it stands."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[2] / "hack" / "cluster"), str(HERE.parent)]
