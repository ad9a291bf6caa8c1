"""Olive's own search over INT8 for one ONNX file: `olive_recipe.py MODEL SAMPLES OUT`, run by hack/olive's Python.

Both of its quantizers as alternatives, chosen by its own latency figure on the samples (an .npz of inputs, first
dimension: sample). Writes `model.onnx` into OUT.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

DATA = """
import numpy as np
from olive.data.registry import Registry


class Samples:
    def __init__(self, arrays):
        self.arrays = arrays

    def __len__(self):
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, index):
        return {name: array[index] for name, array in self.arrays.items()}, 0


@Registry.register_dataset()
def samples(path, **_):
    return Samples(dict(np.load(path)))
"""


def make_config(model: Path, samples: Path, work: Path) -> dict[str, Any]:
    """What `olive run` takes: two quantizers as alternatives, the faster one by its own measurement wins."""
    script = work / "samples.py"
    script.write_text(DATA)
    data = {
        "name": "samples",
        "user_script": str(script),
        "load_dataset_config": {"type": "samples", "params": {"path": str(samples)}},
        "pre_process_data_config": {"type": "skip_pre_process"},
        "post_process_data_config": {"type": "skip_post_process"},
        "dataloader_config": {"type": "default_dataloader", "batch_size": 1},
    }
    latency = {"name": "latency", "type": "latency", "data_config": "samples"}
    latency["sub_types"] = [{"name": "avg", "priority": 1}]  # type: ignore[assignment]
    device = {"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}
    return {
        "input_model": {"type": "ONNXModel", "model_path": str(model)},
        "systems": {"here": {"type": "LocalSystem", "accelerators": [device]}},
        "data_configs": [data],
        "evaluators": {"speed": {"metrics": [latency]}},
        "passes": {
            "quantize": [
                {"type": "OnnxDynamicQuantization"},
                {"type": "OnnxStaticQuantization", "data_config": "samples", "quant_format": "QDQ"},
            ]
        },
        "search_strategy": {"execution_order": "joint", "sampler": "sequential"},
        "evaluator": "speed",
        "host": "here",
        "target": "here",
        "cache_dir": str(work / "cache"),
        "output_dir": str(work / "out"),
        "log_severity_level": 3,
    }


def main() -> None:
    """Run the search and copy its best model."""
    from olive import run

    model, samples, out = (Path(argument) for argument in sys.argv[1:4])
    out.mkdir(parents=True, exist_ok=True)
    config = out / "config.json"
    config.write_text(json.dumps(make_config(model, samples, out)))
    best = run(str(config)).get_best_candidate()
    if best is None:
        raise SystemExit("Olive found no model")
    shutil.copyfile(best.model_path, out / "model.onnx")


if __name__ == "__main__":
    main()
