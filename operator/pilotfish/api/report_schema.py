"""report.json as a JSON schema for other programs. Pure; committed as docs/report.schema.json by hack/generate."""

from typing import Any

from pilotfish.api.report import Report

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def make_report_schema() -> dict[str, Any]:
    """The schema. Fields may be added within version 1, so a reader must pass over what it does not know."""
    schema = _plain(Report.model_json_schema(by_alias=True))
    return {"$schema": DIALECT, **schema, "title": "Pilotfish optimization report"}


def _plain(value: Any) -> Any:
    """Without `null` as an alternative: what is unset is left out of the document; without our markers."""
    if isinstance(value, list):
        return [_plain(child) for child in value]
    if not isinstance(value, dict):
        return value
    kept = {
        key: _plain(child)
        for key, child in value.items()
        if not key.startswith("x-") and not (key == "title" and isinstance(child, str))
    }
    variants = kept.get("anyOf")
    if isinstance(variants, list) and {"type": "null"} in variants:
        rest = [variant for variant in variants if variant != {"type": "null"}]
        kept.pop("anyOf")
        if kept.get("default", ...) is None:
            kept.pop("default")
        kept = {**(rest[0] if len(rest) == 1 else {"anyOf": rest}), **kept}
    return kept
