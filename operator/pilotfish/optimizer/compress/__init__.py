"""Smaller numbers for an ONNX file: one module per recipe, what they hurt layer by layer, and the way back.

Nothing here judges a candidate by its speed or its answers; `prove` and `benchmark` do.
"""
