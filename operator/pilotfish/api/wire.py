"""What every document between the optimizer and its readers is made of."""

import json

from pilotfish.api.base import ApiModel


class WireModel(ApiModel):
    """An ApiModel that is also written as text."""

    def to_json(self, *, indent: int | None = None) -> str:
        """The JSON text, keys in declaration order, so that equal values give equal bytes."""
        separators = (",", ":") if indent is None else None
        return json.dumps(self.to_wire(), ensure_ascii=False, indent=indent, separators=separators)
