"""Opens and converts many models in one process, as the optimizer's child does one, and keeps what the originals answer.

`python tensorflow_parity.py MODELS OUT FORMAT=NAME …`; answers of batch 1, 2 and 5 go to OUT/NAME.npz.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

from pilotfish.api.model import ModelFormat
from pilotfish.optimizer.tensorflow.convert import to_onnx
from pilotfish.optimizer.tensorflow.originals import open_original


def main(models, out, wanted):
    for text in wanted:
        kind, name = text.split("=")
        original = open_original(ModelFormat(kind), models / name, trusted=kind == "SavedModel", threads=1)
        scratch = out / f"{name}.scratch"
        scratch.mkdir()
        to_onnx(original.source(scratch), out / f"{name}.onnx", names=original.names, called=name)
        inputs = ort.InferenceSession(out / f"{name}.onnx").get_inputs()
        rng, kept = np.random.default_rng(5), {}
        for batch in (1, 2, 5):
            given = {i.name: rng.random((batch, *i.shape[1:]), np.float32) for i in inputs}
            kept |= {f"{batch}/in/{n}": a for n, a in given.items()}
            kept |= {f"{batch}/out/{n}": a for n, a in original.run(given).items()}
        np.savez(out / f"{name}.npz", **kept)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
