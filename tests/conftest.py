"""What every test may ask for."""

import sys

sys.modules.setdefault("triton", None)  # tests/triton is on the path: torch must not take it for the GPU compiler

pytest_plugins = ["support.apiserver", "support.record"]
