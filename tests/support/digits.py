"""Specs of the example's digits network for end-to-end tests."""

from typing import Any


def spec(uri: str, *, gpus: int = 1, memory: str = "", optimizer_memory: str = "", **model: Any) -> dict[str, Any]:
    """A spec that is quick to optimize; memory limits of the pods and of the Job where given."""
    optimization: dict[str, Any] = {"batchSizes": [1, 4]}
    serving: dict[str, Any] = {"gpus": {"count": gpus}}
    if optimizer_memory:
        optimization["resources"] = {"memory": optimizer_memory}
    if memory:
        serving["resources"] = {"memory": memory}
    source = {"uri": uri, "credentials": {"secretName": "store-credentials"}, **model}
    return {"model": source, "optimization": optimization, "serving": serving}
