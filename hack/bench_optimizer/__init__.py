"""`make bench-optimizer`: what the optimizer finds beside what its peers find, all timed in one interleaved run."""

import os

# Read when torch is loaded: OpenMP threads that spin while they wait slow everybody down on a shared machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
