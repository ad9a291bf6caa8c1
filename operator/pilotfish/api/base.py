"""What every part of the contract is made of: frozen models with the camelCase names of the Kubernetes API."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict

from pilotfish.api.markers import Rule, full_match, marked

GROUP = "pilotfish.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "ModelDeployment"
PLURAL = "modeldeployments"

_DURATION = r"([0-9]+(\.[0-9]+)?(ms|s|m|h))+"
_QUANTITY = r"[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?"
_FRACTION = r"[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?"
_NAME = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
DURATION_PATTERN, QUANTITY_PATTERN, FRACTION_PATTERN = f"^{_DURATION}$", f"^{_QUANTITY}$", f"^{_FRACTION}$"
"""By these patterns a field of a schema is known as an amount that can be said in several ways."""

_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
}
_LONGEST = timedelta(hours=2_562_047)  # what the API server's 64 bits of nanoseconds hold


def _digits(value: Any) -> Any:
    """An integer as its digits: YAML reads `cpu: 2` as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


IS_DURATION = full_match(_DURATION, "write a duration with its unit such as 500ms, 15s, 2m or 1h30m")
IS_DNS_NAME = full_match(
    _NAME, "write the name of an object in the same namespace: lower-case letters, digits, '-' and '.', no '/'"
)


def countable(text: str) -> str:
    """The text, unless it is a duration longer than anybody can count. Raises ValueError; pydantic calls it."""
    if re.fullmatch(_DURATION, text):
        parse_duration(text)
    return text


Duration = Annotated[
    str,
    Field(pattern=DURATION_PATTERN, max_length=32, json_schema_extra=marked(IS_DURATION)),
    AfterValidator(countable),
]
"""A length of time as Kubernetes writes it: `500ms`, `15s`, `2m`, `1h30m`."""

Quantity = Annotated[
    str,
    Field(
        pattern=QUANTITY_PATTERN,
        max_length=32,
        json_schema_extra=marked(
            full_match(_QUANTITY, "write a quantity such as 500m, 2 or 4Gi", int_or_string=True),
            int_or_string=True,
        ),
    ),
    BeforeValidator(_digits),
]
"""An amount of a resource as Kubernetes writes it: `500m`, `2`, `4Gi`."""

_IS_FRACTION = full_match(_FRACTION, 'write a non-negative decimal number in quotes such as "0.995" or "1e-4"')
_IS_SHARE = Rule(
    # A string that is no number is _IS_FRACTION's business.
    cel=f"!({_IS_FRACTION.cel}) || double(self) <= 1.0",
    message='write a share from 0 to 1 in quotes such as "0.995" for 99.5 %',
    holds=lambda value: float(value) <= 1,
)

# Strings only: up to Kubernetes 1.33 every rule on an integer-or-string is priced as the longest request, and a CRD may
# spend that price on a handful of fields. Quantities are worth it.
Fraction = Annotated[str, Field(pattern=FRACTION_PATTERN, max_length=32, json_schema_extra=marked(_IS_FRACTION))]
"""A non-negative decimal number, written as a string because floats do not survive every client."""

Share = Annotated[
    str, Field(pattern=FRACTION_PATTERN, max_length=32, json_schema_extra=marked(_IS_FRACTION, _IS_SHARE))
]
"""A Fraction from 0 to 1."""

_IS_ABOVE_ZERO = Rule(
    cel=f"!({_IS_FRACTION.cel}) || double(self) > 0.0",
    message='write a number above 0 in quotes such as "4" or "1e-3"',
    holds=lambda value: re.fullmatch(_FRACTION, value) is None or float(value) > 0,
)

PositiveFraction = Annotated[
    str, Field(pattern=FRACTION_PATTERN, max_length=32, json_schema_extra=marked(_IS_FRACTION, _IS_ABOVE_ZERO))
]
"""A Fraction above 0."""

SecretName = Annotated[str, Field(min_length=1, max_length=253, json_schema_extra=marked(IS_DNS_NAME))]
"""Name of a Secret in the object's own namespace."""


def parse_duration(text: str) -> timedelta:
    """The length of a Duration such as `1h30m`. Raises ValueError for anything else, and for more than 292 years."""
    if re.fullmatch(_DURATION, text) is None:
        raise ValueError(f"{text!r} is not a duration: {IS_DURATION.message}")
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)", text)
    if sum(float(amount) * _UNITS[unit].total_seconds() for amount, unit in parts) > _LONGEST.total_seconds():
        raise ValueError(f"{text!r} is too long for a duration: write at most 2562047h")
    return sum((float(amount) * _UNITS[unit] for amount, unit in parts), timedelta())


def is_between(least: str, most: str) -> Rule:
    """A Duration from `least` to `most`, both included; a string that is no duration is another rule's business."""
    low, high = parse_duration(least), parse_duration(most)

    def holds(text: str) -> bool:
        if re.fullmatch(_DURATION, text) is None:
            return True
        try:
            return low <= parse_duration(text) <= high
        except ValueError:
            return False

    return Rule(
        cel=f"!({IS_DURATION.cel}) || (duration(self) >= duration('{least}') && duration(self) <= duration('{most}'))",
        message=f"write a duration from {least} to {most}",
        holds=holds,
    )


def between(least: str, most: str) -> Callable[[JsonDict], None]:
    """Mark a Duration that has bounds, both included."""
    return marked(IS_DURATION, is_between(least, most))


class ApiModel(BaseModel):
    """Frozen, camelCase on the wire, snake_case in Python; unknown fields are ignored as the API server prunes them."""

    model_config = ConfigDict(
        frozen=True,
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        use_attribute_docstrings=True,
    )

    def to_wire(self) -> dict[str, object]:
        """The JSON form: camelCase, without what is unset."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
