"""A HuggingFace folder: config.json and safetensors, offline, no code from the folder."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.api.report import TensorSpec
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.small_json import read_json
from pilotfish.optimizer.tensors import Array

_SEQUENCE = 16


def load_folder(folder: Path) -> Any:
    """The model of a folder in evaluation mode, float32.

    Raises:
        OptimizerError: UnsafeModel when it needs code of its own, ModelInvalid when transformers cannot load it.
    """
    os.environ.update({"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"})
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    config = _config(folder)
    if "auto_map" in config and config.get("model_type") not in transformers.CONFIG_MAPPING:
        raise OptimizerError(
            Reason.UNSAFE_MODEL,
            "the folder needs code of its own (auto_map in config.json), which is never run; export it as ONNX",
        )
    _check_shards(folder)
    kind = _class(config)
    try:
        model, told = kind.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except Exception as error:
        text = (str(error).strip().splitlines() or [type(error).__name__])[0].replace(f"{folder}/", "")
        raise OptimizerError(
            Reason.MODEL_INVALID, f"transformers cannot load the folder: {text}; check config.json and weights"
        ) from error
    if missing := sorted(told["missing_keys"]):
        raise OptimizerError(
            Reason.MODEL_INVALID,
            f"the folder's weights lack {missing[0]!r} ({len(missing)} missing) of {type(model).__name__}, which would "
            "start at random; correct architectures in config.json or upload the weights that belong to it",
        )
    return model.eval()


def _check_shards(folder: Path) -> None:
    """Weights in several files are files of this folder."""
    for index in sorted(folder.glob("*.safetensors.index.json")):
        try:
            names = sorted(set(read_json(index)["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise OptimizerError(
                Reason.MODEL_INVALID, f"{index.name} cannot be read ({error}); save the model again"
            ) from error
        for name in names:
            if Path(name).name != name or name in {"", ".", ".."}:
                raise OptimizerError(
                    Reason.UNSAFE_MODEL,
                    f"{index.name} names the weights {name!r}, outside its folder; save the model again",
                )
            if not (folder / name).is_file():
                raise OptimizerError(
                    Reason.MODEL_INVALID, f"{index.name} names {name!r}, which is not there; upload the whole folder"
                )


def folder_inputs(model: Any, recorded: Mapping[str, Array] | None) -> tuple[tuple[TensorSpec, ...], dict[str, int]]:
    """Inputs (without batch) and bounds of integer inputs, from the model's configuration.

    Raises:
        OptimizerError: SignatureMissing for a model whose inputs are neither text nor images.
    """
    config = model.config
    if model.main_input_name == "input_ids" and not config.is_encoder_decoder:
        return _text_inputs(model, recorded)
    if model.main_input_name == "pixel_values":
        size = getattr(config, "image_size", 224)
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        shape = (getattr(config, "num_channels", 3), height, width)
        return (TensorSpec(name="pixel_values", dtype="FP32", shape=shape),), {}
    raise OptimizerError(
        Reason.SIGNATURE_MISSING,
        f"the inputs of {type(model).__name__} are not known; write spec.model.signature.inputs",
    )


def _text_inputs(model: Any, recorded: Mapping[str, Array] | None) -> tuple[tuple[TensorSpec, ...], dict[str, int]]:
    import inspect

    config = model.config
    accepted = inspect.signature(model.forward).parameters
    names = ["input_ids", "attention_mask"]
    if "token_type_ids" in accepted and getattr(config, "type_vocab_size", 0) > 1:
        names.append("token_type_ids")
    example = tuple(recorded["input_ids"].shape[1:]) if recorded and "input_ids" in recorded else (_SEQUENCE,)
    inputs = tuple(TensorSpec(name=name, dtype="INT64", shape=(-1,), example=example) for name in names)
    return inputs, {"input_ids": config.vocab_size, "token_type_ids": max(1, getattr(config, "type_vocab_size", 1))}


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = read_json(folder / "config.json")
    except ValueError as error:
        raise OptimizerError(
            Reason.MODEL_INVALID, f"config.json is no JSON ({error}); save the folder with save_pretrained"
        ) from error
    if not isinstance(config, dict) or "model_type" not in config:
        raise OptimizerError(
            Reason.MODEL_INVALID,
            "config.json names no model_type; save the folder with save_pretrained",
        )
    return config


def _class(config: dict[str, Any]) -> Any:
    import transformers

    for name in config.get("architectures") or ():
        found = getattr(transformers, str(name), None)
        if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
            return found
    return transformers.AutoModel
