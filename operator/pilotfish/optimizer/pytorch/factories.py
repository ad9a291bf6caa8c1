"""Build an architecture from an allow-list of installed libraries; no other code, no downloads."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from pilotfish.api.model import Architecture
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.errors import OptimizerError

LIBRARIES = ("torchvision", "timm", "transformers")
_DOWNLOADS = ("weights", "weights_backbone", "pretrained", "pretrained_backbone", "checkpoint_path", "pretrained_cfg")


def build(architecture: Architecture) -> Any:
    """The module without its weights, in evaluation mode.

    Raises:
        OptimizerError: ArchitectureInvalid when the factory is not on the list, not there, or refuses its arguments.
    """
    arguments = dict(architecture.arguments)
    asked = [key for key in _DOWNLOADS if arguments.get(key) not in {None, False}]
    if asked:
        raise _invalid(f"argument {asked[0]!r} of {architecture.factory} would download weights; leave it out")
    factory = _find(architecture.factory)
    try:
        return _call(factory, arguments).eval()
    except OptimizerError:
        raise
    except Exception as error:
        raise _invalid(
            f"{architecture.factory} refuses its arguments: {error}; correct architecture.arguments"
        ) from error


def _find(path: str) -> Callable[..., Any]:
    root, _, rest = path.partition(".")
    parts = rest.split(".")
    if root not in LIBRARIES or not rest or any(not p.isidentifier() or p.startswith("_") for p in parts):
        raise _invalid(
            f"factory {path!r} is not on the list; use one below {', '.join(f'{name}.' for name in LIBRARIES)}"
        )
    try:
        found = importlib.import_module(root)
        for index, part in enumerate(parts):
            if not hasattr(found, part):
                importlib.import_module(".".join([root, *parts[: index + 1]]))
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise _invalid(f"factory {path!r} is not installed here ({error}); check the name and the image") from error
    home = getattr(found, "__module__", "") or ""
    if not callable(found) or home.split(".")[0] != root or inspect.ismethod(found):
        raise _invalid(f"factory {path!r} is no model builder of {root}; name one of its models")
    return found


def _call(factory: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    import torch

    config = getattr(factory, "config_class", None)
    if config is not None:
        model = factory(config(**arguments))
    elif factory.__module__.startswith("timm."):
        if ":" in str(arguments.get("model_name", "")):
            raise _invalid("argument 'model_name' names a download; use a plain timm name")
        model = factory(**{"pretrained": False, **arguments})
    else:
        parameters = inspect.signature(factory).parameters
        none = dict.fromkeys({"weights", "weights_backbone"} & set(parameters))
        model = factory(**{**none, **arguments})
    if not isinstance(model, torch.nn.Module):
        raise _invalid(f"{factory.__name__} returns a {type(model).__name__}, not a model; name a model builder")
    return model


def _invalid(message: str) -> OptimizerError:
    return OptimizerError(Reason.ARCHITECTURE_INVALID, message)
