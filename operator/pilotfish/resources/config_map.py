"""The ConfigMap with config.pbtxt of the model, and of the one that answers plain JSON where the spec asks for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pilotfish import names
from pilotfish.api.job_input import PREDICT_CONFIG
from pilotfish.api.model_config import render_model_config
from pilotfish.api.predict_config import Answering, render_predict_config
from pilotfish.api.report import Backend, ModelSignature
from pilotfish.api.serving import ServingSpec
from pilotfish.api.serving_settings import Resolved, given_serving, resolve_serving
from pilotfish.api.tuning import TunedServing
from pilotfish.names import Component
from pilotfish.resources.meta import Owner, make_metadata
from pilotfish.resources.pods import compute_for
from pilotfish.resources.policy import Policy
from pilotfish.resources.units import whole_cores

CONFIG_KEY = "config.pbtxt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What answers of `/predict` say of the artifact, and what it holds for them.

    `samples_given`: a golden set that was recorded from real inputs.
    """

    variant: str = ""
    samples_given: bool = False
    tokenizer: bool = False


def make_config_map(
    owner: Owner,
    *,
    revision: str,
    serving: ServingSpec,
    backend: Backend,
    signature: ModelSignature,
    policy: Policy,
    parameters: Mapping[str, str] | None = None,
    tuned: TunedServing | None = None,
    told: Told | None = None,
) -> dict[str, Any]:
    """The whole ConfigMap, immutable; `parameters`, `tuned` and `told` are the artifact's own.

    Raises:
        ValueError: a signature that Triton cannot serve, or that `serving.predict` does not fit.
    """
    name = names.revision_name(owner.name, revision)
    config = resolved_serving(serving, cores=pod_cores(serving, policy), tuned=tuned).config
    text = render_model_config(
        name=owner.name, backend=backend, signature=signature, serving=config, parameters=parameters
    )
    told = told or Told()
    second = serving.predict and render_predict_config(
        signature=signature,
        predict=serving.predict,
        answering=Answering(
            model=owner.name,
            revision=revision,
            variant=told.variant,
            max_batch_size=config.max_batch_size,
            drift=told.samples_given,
            tokenizer=told.tokenizer,
        ),
    )
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": make_metadata(owner, name=name, component=Component.TRITON, revision=revision),
        "immutable": True,
        "data": {CONFIG_KEY: text, **({PREDICT_CONFIG: second} if second else {})},
    }


def pod_cores(serving: ServingSpec, policy: Policy) -> int:
    """The CPU limit of a Triton pod in whole cores."""
    return whole_cores(compute_for(serving.resources, policy.serving_compute).cpu)


def resolved_serving(serving: ServingSpec, *, cores: int, tuned: TunedServing | None) -> Resolved:
    """The figures of config.pbtxt: what the spec says, else what was measured, else the defaults."""
    return resolve_serving(
        given_serving(serving), cores=cores, gpu=serving.gpus.count > 0, warmup=serving.warmup, tuned=tuned
    )
