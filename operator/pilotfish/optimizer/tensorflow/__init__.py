"""Models of TensorFlow. TensorFlow itself is only ever loaded in a process of its own: `serve`."""
