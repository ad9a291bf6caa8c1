"""The OpenAPI document of a model's plain-JSON endpoint, from its signature and `spec.serving.predict`. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Any

from pilotfish.api.predict import Predict
from pilotfish.api.predict_config import Contract, Member, make_contract, predict_model
from pilotfish.api.report import ModelSignature

OPENAPI = "3.1.0"
GATEWAY_PATH = "/predict"
_TYPES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "BYTES": {"type": "string"},
        "BOOL": {"type": "boolean"},
        "FP32": {"type": "number", "format": "float"},
        "FP64": {"type": "number", "format": "double"},
        **{f"INT{bits}": {"type": "integer", "format": f"int{bits}"} for bits in (8, 16, 32, 64)},
        **{f"UINT{bits}": {"type": "integer", "minimum": 0} for bits in (8, 16, 32, 64)},
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Whose endpoint it is. `hosts` are those of a gateway, in front of which the path is short."""

    model: str
    namespace: str
    hosts: tuple[str, ...] = ()
    gateway: bool = False


def make_openapi(endpoint: Endpoint, *, signature: ModelSignature, predict: Predict, version: str) -> dict[str, Any]:
    """The whole document; `version` names the revision.

    Raises:
        ValueError: the model and `spec.serving.predict` do not fit.
    """
    contract = make_contract(signature, predict)
    operation = _operation(contract, endpoint.model)
    inside = f"http://{endpoint.model}.{endpoint.namespace}.svc:8000"
    path = f"/v2/models/{predict_model(endpoint.model)}/generate"
    return {
        "openapi": OPENAPI,
        "info": {"title": f"{endpoint.model} in plain JSON", "version": version},
        "servers": [{"url": inside, "description": "Inside the cluster."}],
        "paths": {
            path: {"post": {**operation, "operationId": "generate"}},
            **(
                {
                    GATEWAY_PATH: {
                        "servers": [{"url": f"https://{host}"} for host in endpoint.hosts] or [{"url": "/"}],
                        "post": {**operation, "operationId": "predict"},
                    }
                }
                if endpoint.gateway
                else {}
            ),
        },
        "components": {
            "schemas": {
                "Request": _request(contract),
                "Answer": _answer(contract, endpoint.model),
                "Refusal": {
                    "type": "object",
                    "required": ["error"],
                    "properties": {"error": {"type": "string", "description": "What is wrong, in a sentence."}},
                },
            }
        },
    }


def _operation(contract: Contract, model: str) -> dict[str, Any]:
    several = " Several samples are one list, one after the other." if contract.batched else ""
    return {
        "summary": f"Ask {model}",
        "description": f"Each input is one value or one flat list.{several}",
        "requestBody": {"required": True, "content": _json("Request")},
        "responses": {
            "200": {"description": "The model's answer, and who gave it.", "content": _json("Answer")},
            "400": {"description": "The request does not fit the model.", "content": _json("Refusal")},
            "500": {"description": "Values of another type, or the server failed.", "content": _json("Refusal")},
        },
    }


def _json(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _request(contract: Contract) -> dict[str, Any]:
    members = {member.name: _given(member, batched=contract.batched) for member in contract.inputs}
    # Triton takes further strings, numbers and booleans as parameters, which this endpoint passes over.
    return {"type": "object", "required": list(members), "properties": members}


def _answer(contract: Contract, model: str) -> dict[str, Any]:
    told = {
        "model_name": {"type": "string", "const": predict_model(model)},
        "model_version": {"type": "string", "const": "1"},
    }
    members = {member.name: _told(member, batched=contract.batched) for member in contract.outputs}
    return {"type": "object", "required": [*members, *told], "properties": {**members, **told}}


def _given(member: Member, *, batched: bool) -> dict[str, Any]:
    item, count = dict(_TYPES[member.dtype]), _count(member)
    if member.base64:
        item["contentEncoding"] = "base64"
    sizes: dict[str, Any] = {"minItems": count or 1}
    if count and not batched:
        sizes["maxItems"] = count
    several = {"type": "array", "items": item, **sizes}
    return _either(item, several, alone=count in (None, 1), always=False, meaning=member.meaning)


def _told(member: Member, *, batched: bool) -> dict[str, Any]:
    """Triton writes a list of one as its only value."""
    item, count = dict(_TYPES[member.dtype]), _count(member)
    several = {"type": "array", "items": item, "minItems": max(count or 2, 2)}
    return _either(item, several, alone=count in (None, 1), always=count == 1 and not batched, meaning=member.meaning)


def _either(
    item: dict[str, Any], several: dict[str, Any], *, alone: bool, always: bool, meaning: str
) -> dict[str, Any]:
    if always:
        return {**item, "description": meaning}
    return {"description": meaning, **({"oneOf": [item, several]} if alone else several)}


def _count(member: Member) -> int | None:
    """Values of one sample; None where it is free."""
    return None if any(side < 0 for side in member.shape) else prod(member.shape)
