"""The same said in other words: `1m` for `60s`, `500m` for `0.5`, an empty block for none. No pod moves for it. Pure.

A revision's name is a hash of what the user wrote, and stays that: names that exist may not change. So what is asked
for is compared with the revisions on record by meaning, and where one means the same it is written in its words.
"""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import cache
from typing import Any

from pilotfish import names
from pilotfish.api.base import DURATION_PATTERN, FRACTION_PATTERN, QUANTITY_PATTERN, parse_duration
from pilotfish.api.spec import ModelDeploymentSpec
from pilotfish.api.structural import Node, make_tree
from pilotfish.resources.revision import RevisionRecord
from pilotfish.resources.units import parse_quantity

_AMOUNTS: dict[str | None, Callable[[str], Any]] = {
    DURATION_PATTERN: parse_duration,
    QUANTITY_PATTERN: parse_quantity,
    FRACTION_PATTERN: Decimal,
}


def in_known_words(spec: ModelDeploymentSpec, records: Iterable[RevisionRecord]) -> ModelDeploymentSpec:
    """The spec as the newest record says it that means the same; the spec itself where a record has its very words."""
    known = tuple(records)
    asked = names.revision_hash(spec)
    if any(record.revision == asked for record in known):
        return spec
    meaning = _meaning(_tree(), names.intent(spec))
    for record in reversed(known):
        if _meaning(_tree(), record.intent) == meaning:
            told = _respelt(spec, record.intent)
            if names.revision_hash(told) == record.revision:
                return told
    return spec


def _respelt(spec: ModelDeploymentSpec, intent: Mapping[str, Any]) -> ModelDeploymentSpec:
    return ModelDeploymentSpec.model_validate(_laid_over(spec.to_wire(), names.intent(spec), intent))


def _laid_over(whole: Mapping[str, Any], said: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """`whole` with the words of `known`; what `said` has beyond it says nothing."""
    kept = {key: value for key, value in whole.items() if key not in said or key in known}
    blocks = {
        key: _laid_over(kept.get(key) or {}, said.get(key) or {}, value) if isinstance(value, Mapping) else value
        for key, value in known.items()
    }
    return {**kept, **blocks}


@cache
def _tree() -> Node:
    return make_tree(ModelDeploymentSpec)


def _meaning(node: Node, value: Any) -> Any:
    """The value with amounts as numbers and without blocks that say nothing."""
    if isinstance(value, Mapping) and "properties" in node:
        fields = node["properties"]
        told = {key: _meaning(fields.get(key, {}), child) for key, child in value.items()}
        return {key: child for key, child in told.items() if not _says_nothing(fields.get(key, {}), child)}
    if isinstance(value, list | tuple):
        return [_meaning(node.get("items", {}), item) for item in value]
    pattern = node.get("pattern")
    return _AMOUNTS[pattern](value) if isinstance(value, str) and pattern in _AMOUNTS else value


def _says_nothing(node: Node, meaning: Any) -> bool:
    """Whether it may as well be left out: the default in other words, or an empty block without defaults in it."""
    if node.get("pattern") in _AMOUNTS:
        return node.get("default") is not None and bool(meaning == _meaning(node, node["default"]))
    fields = node.get("properties", {})
    return meaning == {} and not node.get("required") and all(f.get("default") is None for f in fields.values())
