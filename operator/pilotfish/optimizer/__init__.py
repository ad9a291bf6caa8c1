"""What runs inside the Job: fetch, load, convert, prove, measure, choose, package.

Knows only `pilotfish.api`. torch is imported by `pilotfish.optimizer.pytorch` alone, and that package only on demand,
so the light image takes an ONNX model the whole way.
"""

import os

# ONNX Runtime keeps a device's number and sends events to its maker unless this is set before it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
