"""What holds for a revision and where it comes from, read from its record alone: never from today's settings."""

from collections.abc import Mapping
from typing import Any

from pilotfish.api.bounds import bounds_for
from pilotfish.api.model_config import largest_batch
from pilotfish.api.optimization import OptimizationSpec
from pilotfish.api.serving import ServingSpec
from pilotfish.api.serving_settings import Origin
from pilotfish.api.status import Effective, EffectiveTolerance, Origins
from pilotfish.resources.config_map import resolved_serving
from pilotfish.resources.revision import RevisionRecord
from pilotfish.resources.units import whole_cores


def make_effective(record: RevisionRecord) -> Effective:
    """Image, batching, instances, threads, tolerance."""
    serving = ServingSpec.model_validate(record.intent.get("serving") or {})
    container = record.objects.deployment["spec"]["template"]["spec"]["containers"][0]
    found = resolved_serving(serving, cores=_cores(container), tuned=record.artifact.serving)
    config, origins = found.config, found.origins
    batch = min(config.max_batch_size, largest_batch(record.artifact.backend, record.signature, config.max_batch_size))
    batched = record.signature.batched and batch > 1
    tolerance, said = _tolerance(record, batching=batched)
    return Effective(
        image=container["image"],
        max_batch_size=batch if record.signature.batched else 0,
        preferred_sizes=config.preferred_batch_sizes or None if batched else None,
        max_queue_delay=_duration(config.max_queue_delay_us) if batched else None,
        instances=config.instances,
        intra_op_threads=config.intra_op_threads,
        inter_op_threads=config.inter_op_threads or None,
        accelerator=config.accelerator,
        tolerance=tolerance,
        origins=Origins(
            image=Origin.DEFAULT,
            max_batch_size=origins["max_batch_size"] if record.signature.batched else None,
            preferred_sizes=origins["preferred_sizes"] if batched and config.preferred_batch_sizes else None,
            max_queue_delay=origins["max_queue_delay_microseconds"] if batched else None,
            instances=origins["instances"],
            intra_op_threads=origins["intra_op_threads"],
            inter_op_threads=origins["inter_op_threads"] if config.inter_op_threads else None,
            accelerator=origins.get("accelerator") if config.accelerator else None,
            tolerance=said,
        ),
    )


def _cores(container: Mapping[str, Any]) -> int:
    limits = container.get("resources", {}).get("limits", {})
    return whole_cores(str(limits.get("cpu", "1")))


def _tolerance(record: RevisionRecord, *, batching: bool) -> tuple[EffectiveTolerance, Origin]:
    asked = OptimizationSpec.model_validate(record.intent.get("optimization") or {}).tolerance
    given = record.summary is not None and record.summary.samples == "Given"
    bounds = bounds_for(record.artifact.precision, asked, given=given, batching=batching)
    told = EffectiveTolerance(
        relative_error=_figure(bounds.max_rel),
        max_abs=_figure(bounds.max_abs),
        cosine=_figure(bounds.cosine),
        top1_agreement=_figure(bounds.top1_agreement),
        batch_parity=_figure(bounds.batch_parity),
    )
    return told, Origin.DEFAULT if asked is None else Origin.SPEC


def _figure(value: float | None) -> str | None:
    return None if value is None else f"{value:.6g}"


def _duration(microseconds: int) -> str:
    return f"{microseconds / 1000:g}ms" if microseconds else "0s"
