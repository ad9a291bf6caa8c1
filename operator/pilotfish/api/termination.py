"""The termination message as text: never longer than what Kubernetes keeps."""

from pilotfish.api.report import TerminationMessage, one_line

TERMINATION_MESSAGE_LIMIT = 4096


def encode_termination_message(message: TerminationMessage, *, limit: int = TERMINATION_MESSAGE_LIMIT) -> str:
    """JSON of at most `limit` UTF-8 bytes.

    Trimmed step by step and always in the same order: long sentences first, then the candidates' reasons, then the
    candidates that did not win, then examples in the signature, then the signature (`manifest.json` has all of it).
    """
    trimmed = message
    for step in _TRIM_STEPS:
        text = trimmed.to_json()
        if len(text.encode()) <= limit:
            return text
        trimmed = step(trimmed)
    text = trimmed.to_json()
    if len(text.encode()) > limit:
        raise ValueError(f"termination message does not fit {limit} bytes even when trimmed")
    return text


def decode_termination_message(text: str) -> TerminationMessage:
    """Read what a container left; raises ValueError (pydantic.ValidationError) for anything else."""
    return TerminationMessage.model_validate_json(text)


def _shorten(message: TerminationMessage) -> TerminationMessage:
    shorter = _with_candidates(message, reason_limit=120)
    return shorter.model_copy(update={"message": one_line(message.message, limit=300)})


def _drop_reasons(message: TerminationMessage) -> TerminationMessage:
    return _with_candidates(message, reason_limit=24)


def _keep_winner(message: TerminationMessage) -> TerminationMessage:
    if message.summary is None:
        return message
    kept = tuple(c for c in message.summary.candidates if c.variant == message.summary.winner)
    return message.model_copy(update={"summary": message.summary.model_copy(update={"candidates": kept})})


def _drop_examples(message: TerminationMessage) -> TerminationMessage:
    if message.signature is None:
        return message
    bare = {
        side: tuple(t.model_copy(update={"example": None}) for t in getattr(message.signature, side))
        for side in ("inputs", "outputs")
    }
    return message.model_copy(update={"signature": message.signature.model_copy(update=bare)})


def _drop_signature(message: TerminationMessage) -> TerminationMessage:
    return message.model_copy(update={"signature": None})


def _with_candidates(message: TerminationMessage, *, reason_limit: int) -> TerminationMessage:
    if message.summary is None:
        return message
    kept = tuple(
        c if c.reason is None else c.model_copy(update={"reason": one_line(c.reason, limit=reason_limit)})
        for c in message.summary.candidates
    )
    return message.model_copy(update={"summary": message.summary.model_copy(update={"candidates": kept})})


_TRIM_STEPS = (_shorten, _drop_reasons, _keep_winner, _drop_examples, _drop_signature)
