"""The ConfigMap with the revision's config.pbtxt."""

from collections.abc import Mapping
from typing import Any

from pilotfish import names
from pilotfish.api.base import parse_duration
from pilotfish.api.model_config import ServingConfig, render_model_config
from pilotfish.api.report import Backend, ModelSignature
from pilotfish.api.serving import ServingSpec
from pilotfish.names import Component
from pilotfish.resources.meta import Owner, make_metadata
from pilotfish.resources.pods import compute_for
from pilotfish.resources.policy import Policy
from pilotfish.resources.units import whole_cores

CONFIG_KEY = "config.pbtxt"


def make_config_map(
    owner: Owner,
    *,
    revision: str,
    serving: ServingSpec,
    backend: Backend,
    signature: ModelSignature,
    policy: Policy,
    parameters: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The whole ConfigMap, immutable; `parameters` are the artifact's own.

    Raises:
        ValueError: a signature that Triton cannot serve.
    """
    name = names.revision_name(owner.name, revision)
    text = render_model_config(
        name=owner.name,
        backend=backend,
        signature=signature,
        serving=serving_config(serving, policy),
        parameters=parameters,
    )
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": make_metadata(owner, name=name, component=Component.TRITON, revision=revision),
        "immutable": True,
        "data": {CONFIG_KEY: text},
    }


def serving_config(serving: ServingSpec, policy: Policy) -> ServingConfig:
    """The figures of config.pbtxt that the spec decides. Threads at 0 follow the pod's CPU, shared by instances."""
    cores = whole_cores(compute_for(serving.resources, policy.serving_compute).cpu)
    return ServingConfig(
        max_batch_size=serving.batching.max_batch_size,
        preferred_batch_sizes=serving.batching.preferred_sizes,
        max_queue_delay_us=int(parse_duration(serving.batching.max_queue_delay).total_seconds() * 1_000_000),
        instances=serving.instances,
        gpu=serving.gpus.count > 0,
        intra_op_threads=serving.threads.intra_op or max(1, cores // serving.instances),
        inter_op_threads=serving.threads.inter_op,
        warmup=serving.warmup,
    )
