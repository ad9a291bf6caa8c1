"""Models of TensorFlow. TensorFlow itself is only ever loaded in a process of its own: `python -m …tensorflow.serve`."""
