"""What a field of the contract says beyond its type: rules, how lists merge, and what this version refuses.

A marker stands beside the field as `json_schema_extra`. The CRD generator and lint read it from the same place; it does
nothing at parse time, so that the operator and the optimizer go on reading objects that an older rule let in.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from pydantic import GetJsonSchemaHandler
from pydantic.config import JsonDict
from pydantic_core.core_schema import CoreSchema

MARKERS = "x-pilotfish-markers"
MEANINGS = "x-pilotfish-meanings"


class DocumentedEnum(StrEnum):
    """A closed set whose members say what they mean: `NAME = "wire value", "what it means"`."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Self:
        """A string member that carries its explanation."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The enum's schema with the explanations beside it, for the generator."""
        schema = handler(core_schema)
        handler.resolve_ref_schema(schema)[MEANINGS] = {member.value: member.meaning for member in cls}
        return schema


class RuleReason(StrEnum):
    """How the API server classes a refusal; Forbidden does not repeat the value, which matters for secrets."""

    INVALID = "FieldValueInvalid"
    FORBIDDEN = "FieldValueForbidden"
    REQUIRED = "FieldValueRequired"
    DUPLICATE = "FieldValueDuplicate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One validation, said twice: in CEL for the API server and in Python for lint.

    `holds` gets the node's wire value (camelCase, defaults applied). It is None where only the server can judge,
    because the rule compares with the stored object. `message` says what to write instead; `{self}` in it stands for
    the value.
    """

    cel: str
    message: str
    holds: Callable[[Any], bool] | None
    field_path: str | None = None
    reason: RuleReason = RuleReason.INVALID

    def to_wire(self) -> dict[str, Any]:
        """The entry of x-kubernetes-validations."""
        wire: dict[str, Any] = {"rule": self.cel, "message": self.message.replace("{self}", "the value")}
        if "{self}" in self.message:
            parts = [quoted(part) for part in self.message.split("{self}")]
            wire["messageExpression"] = " + self + ".join(parts)
        if self.field_path is not None:
            wire["fieldPath"] = self.field_path
        if self.reason is not RuleReason.INVALID:
            wire["reason"] = self.reason.value
        return wire

    def explain(self, value: Any) -> str:
        """The message for a value that broke the rule."""
        return self.message.replace("{self}", str(value))


class ListType(StrEnum):
    """How server-side apply merges a list. Lists with defaults are atomic: an unowned default would never go away."""

    ATOMIC = "atomic"
    MAP = "map"


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """Everything that one field or model says beyond its type.

    `unavailable` is True for a whole field, or names the enum values that this version refuses. Implementing one means
    deleting it here, nothing else.
    """

    rules: tuple[Rule, ...] = ()
    list_type: ListType = ListType.ATOMIC
    list_keys: tuple[str, ...] = ()
    int_or_string: bool = False
    unavailable: bool | tuple[str, ...] = False

    def __call__(self, schema: JsonDict) -> None:
        """Leave this marker in pydantic's JSON schema, where the generator picks it up."""
        schema.setdefault(MARKERS, []).append(self)  # type: ignore[union-attr, arg-type]


def marked(
    *rules: Rule,
    map_by: Sequence[str] = (),
    int_or_string: bool = False,
    unavailable: bool | tuple[str, ...] = False,
) -> Callable[[JsonDict], None]:
    """A value for `json_schema_extra`; `map_by` names the keys of a list whose items merge by key."""
    return Marker(
        rules=rules,
        list_type=ListType.MAP if map_by else ListType.ATOMIC,
        list_keys=tuple(map_by),
        int_or_string=int_or_string,
        unavailable=unavailable,
    )


def quoted(text: str) -> str:
    """A CEL string literal."""
    return json.dumps(text, ensure_ascii=False)


def full_match(body: str, message: str, *, int_or_string: bool = False) -> Rule:
    """The whole string matches; replaces a bare pattern, whose refusal nobody can read.

    With `int_or_string` a non-negative integer is right too. (CEL's string() would cost more than a CRD may spend.)
    """
    pattern = re.compile(body)
    matches = f"self.matches({quoted(f'^(?:{body})$')})"
    return Rule(
        cel=f"type(self) == int ? self >= 0 : {matches}" if int_or_string else matches,
        message=message,
        holds=lambda value: pattern.fullmatch(str(value)) is not None,
    )


def no_match(body: str, message: str, *, reason: RuleReason = RuleReason.INVALID) -> Rule:
    """No part of the string matches."""
    pattern = re.compile(body)
    return Rule(
        cel=f"!self.matches({quoted(body)})",
        message=message,
        holds=lambda value: pattern.search(value) is None,
        reason=reason,
    )


def distinct(message: str, *, key: str | None = None) -> Rule:
    """No two items of the list are equal (have the same `key`)."""
    this, other = (f"x.{key}", f"y.{key}") if key else ("x", "y")
    return Rule(
        cel=f"self.all(x, self.exists_one(y, {other} == {this}))",
        message=message,
        holds=lambda items: len({item[key] if key else item for item in items}) == len(items),
        reason=RuleReason.INVALID,
    )


def unchanged(message: str) -> Rule:
    """The value stays what it was when the object was made."""
    return Rule(cel="self == oldSelf", message=message, holds=None, reason=RuleReason.FORBIDDEN)
