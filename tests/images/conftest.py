"""The image builder is a program in hack/images; its modules are tested from here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "hack" / "images"))
