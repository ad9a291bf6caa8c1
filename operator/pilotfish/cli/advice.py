"""What a manifest says that would be taken, but may not do what its author thinks. Pure.

Unlike a finding of lint, none of these is a mistake. Only a manifest without findings can be judged.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pilotfish.api.lint import Finding
from pilotfish.api.rollout import Capacity, Strategy
from pilotfish.api.spec import ModelDeploymentSpec
from pilotfish.cli.manifests import without_nulls
from pilotfish.core.rollout.split import split_warning_by
from pilotfish.core.rollout.steps import resolve_steps
from pilotfish.core.scope import within_bounds


def advise(manifest: Mapping[str, Any]) -> tuple[Finding, ...]:
    """Warnings, each with the place that it is about."""
    spec = ModelDeploymentSpec.model_validate(without_nulls(manifest["spec"]))
    return (
        *_steps_nobody_makes(spec),
        *_steps_out_of_reach(spec),
        *_nothing_to_judge(spec),
        *_gaps(spec),
        *_two_who_scale(manifest, spec),
    )


def _steps_nobody_makes(spec: ModelDeploymentSpec) -> Iterator[Finding]:
    if spec.rollout.strategy is Strategy.CANARY and spec.rollout.capacity is Capacity.RECREATE:
        yield Finding(
            "spec.rollout.capacity",
            "with Recreate the two revisions never serve at once, so a canary's steps are skipped; use Swap or Surge",
        )


def _steps_out_of_reach(spec: ModelDeploymentSpec) -> Iterator[Finding]:
    """Without a gateway a share of requests is a share of pods."""
    rollout = spec.rollout
    if spec.serving.gateway is not None or rollout.capacity is Capacity.RECREATE:
        return
    mode = Capacity.SWAP if rollout.capacity is Capacity.SWAP else Capacity.SURGE
    for step in resolve_steps(rollout):
        warning = split_warning_by(mode, within_bounds(spec).serving.replicas, step.weight)
        if warning is not None:
            where = f"spec.rollout.steps[{step.index}].weight" if rollout.steps else "spec.rollout.steps (default)"
            yield Finding(where, warning)


def _nothing_to_judge(spec: ModelDeploymentSpec) -> Iterator[Finding]:
    """A canary has its steps, BlueGreen only the time after the switch."""
    if spec.rollout.analysis is not None and spec.rollout.strategy is not Strategy.CANARY and not spec.rollout.bake:
        yield Finding(
            "spec.rollout.analysis",
            f"nothing is judged with {spec.rollout.strategy} and no bake; set bake: 5m, or strategy: Canary",
        )


def _two_who_scale(manifest: Mapping[str, Any], spec: ModelDeploymentSpec) -> Iterator[Finding]:
    """The stored object has both, by the autoscaler's own hand; a manifest should not."""
    serving = manifest["spec"].get("serving") or {}
    if spec.serving.autoscaling is not None and "replicas" in serving:
        yield Finding(
            "spec.serving.replicas",
            "each apply sets back what the autoscaler has decided; remove replicas, or remove autoscaling",
        )


def _gaps(spec: ModelDeploymentSpec) -> Iterator[Finding]:
    stops = spec.rollout.strategy is Strategy.REPLACE or spec.rollout.capacity is Capacity.RECREATE
    if stops and spec.serving.min_available > 0 and spec.serving.replicas > 0:
        said = "strategy: Replace" if spec.rollout.strategy is Strategy.REPLACE else "capacity: Recreate"
        yield Finding(
            "spec.rollout",
            f"{said} stops all pods in an update, whatever serving.minAvailable says; requests fail meanwhile",
        )
