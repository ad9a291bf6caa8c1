"""Captum's methods without the package's front door: that imports matplotlib for drawings that nobody makes here."""

import sys
from importlib import import_module
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

_PLACES = {
    "IntegratedGradients": "captum.attr._core.integrated_gradients",
    "LayerIntegratedGradients": "captum.attr._core.layer.layer_integrated_gradients",
    "Saliency": "captum.attr._core.saliency",
    "FeatureAblation": "captum.attr._core.feature_ablation",
}


def captum_method(name: str) -> Any:
    """One of Captum's classes by its name.

    For a process of its own: empty packages stand in for `captum` and `captum.attr`.

    Raises:
        ImportError: Captum is not installed.
    """
    if "captum" not in sys.modules:
        found = PathFinder.find_spec("captum")
        if found is None or not found.submodule_search_locations:
            raise ImportError("this image has no captum")
        root = found.submodule_search_locations[0]
        for package, folder in (("captum", root), ("captum.attr", f"{root}/attr")):
            shell = ModuleType(package)
            shell.__path__ = [folder]
            sys.modules[package] = shell
    return getattr(import_module(_PLACES[name]), name)
