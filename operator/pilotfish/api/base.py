"""What every part of the contract is made of: frozen models with the camelCase names of the Kubernetes API."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "pilotfish.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "ModelDeployment"
PLURAL = "modeldeployments"

Duration = Annotated[str, Field(pattern=r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$", max_length=32)]
"""A length of time as Kubernetes writes it: `500ms`, `15s`, `2m`, `1h30m`."""

Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$", max_length=32)]
"""An amount of a resource as Kubernetes writes it: `500m`, `2`, `4Gi`."""

Fraction = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?$", max_length=32)]
"""A non-negative decimal number, written as a string because floats do not survive every client."""


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
