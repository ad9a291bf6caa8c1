"""Revisions as they are kept: from a Job's result to a record with its rendered objects, and how long records stay."""

from pilotfish import names
from pilotfish.api.reasons import Reason
from pilotfish.api.report import TerminationMessage
from pilotfish.core.drift import create_if_missing
from pilotfish.core.failures import Finding
from pilotfish.core.objects import annotation_of
from pilotfish.core.plan import Apply
from pilotfish.core.scope import Scope
from pilotfish.resources.config_map import Told, make_config_map
from pilotfish.resources.deployment import ServingIntent, make_deployment
from pilotfish.resources.revision import RevisionObjects, RevisionRecord, make_controller_revision
from pilotfish.resources.services import make_headless_service


def new_record(scope: Scope, result: TerminationMessage) -> RevisionRecord | Finding:
    """The wanted revision with its artifact and the objects that will serve it, rendered now and never again."""
    artifact, signature = result.artifact, result.signature
    if artifact is None or signature is None:
        return Finding(
            reason=Reason.SIGNATURE_UNSERVABLE,
            message="The model has too many or too long input and output names for the Job's result; give it fewer",
            fatal=True,
        )
    serving = scope.spec.serving
    try:
        config_map = make_config_map(
            scope.owner,
            revision=scope.revision,
            serving=serving,
            backend=artifact.backend,
            signature=signature,
            policy=scope.policy,
            parameters=artifact.parameters,
            tuned=artifact.serving,
            told=Told(
                variant=artifact.variant,
                samples_given=_samples_given(result),
                tokenizer=bool(artifact.tokenizer),
            ),
        )
    except ValueError as error:
        return Finding(
            reason=Reason.SIGNATURE_UNSERVABLE, message=f"Triton cannot serve the model: {error}", fatal=True
        )
    intent = ServingIntent(
        serving=serving,
        revision=scope.revision,
        artifact=artifact,
        storage=scope.spec.storage,
        samples_given=_samples_given(result),
    )
    return RevisionRecord(
        hash_version=names.HASH_VERSION,
        revision=scope.revision,
        recipe_key=scope.recipe_key,
        intent=names.intent(scope.spec),
        source=result.source,
        optimizer=result.optimizer,
        artifact=artifact,
        signature=signature,
        summary=result.summary,
        objects=RevisionObjects(
            deployment=make_deployment(scope.owner, intent, scope.policy),
            config_map=config_map,
            service=make_headless_service(scope.owner, revision=scope.revision),
        ),
    )


def _samples_given(result: TerminationMessage) -> bool:
    return result.summary is not None and result.summary.samples == "Given"


def keep_record(scope: Scope, record: RevisionRecord) -> tuple[Apply, ...]:
    """Write the record down if it is new."""
    numbers = (int(body.get("revision", 0)) for body in scope.observed.of_kind("ControllerRevision"))
    cause = annotation_of(scope.observed.body, names.CHANGE_CAUSE)
    body = make_controller_revision(scope.owner, record, number=max(numbers, default=0) + 1, cause=cause)
    apply = create_if_missing(scope.observed, body)
    return () if apply is None else (apply,)
