"""What runs inside the Job: fetch, load, convert, prove, measure, choose, package.

Knows only `pilotfish.api`. torch is imported by `pilotfish.optimizer.pytorch` alone, and that package only on demand,
so the light image takes an ONNX model the whole way.
"""
