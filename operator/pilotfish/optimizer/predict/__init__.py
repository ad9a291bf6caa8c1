"""The server's second model, which answers plain JSON. `install` lays these files into a model repository.

They run inside Triton's Python backend, whose Python is the server's: numpy and the standard library, Pillow for
images, tokenizers for texts, nothing of Pilotfish.
"""
