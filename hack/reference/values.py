"""The pages of what an installation can set: the chart's values and the operator's variables."""

import ast
import inspect
import json
import textwrap

import chart_docs
from pydantic_core import PydanticUndefined

from pilotfish.settings import OperatorSettings
from reference.markdown import cell, code, table

VALUES = """\
# Values of the chart

Every value of `charts/pilotfish`, from the comments of its `values.yaml`. A key that is not here is refused.
"""
SETTINGS = """\
# Settings of the operator

Variables of the operator's process. The chart sets them from its [values](values.md); an operator that is started by
hand (`pilotfish-operator`) reads them from its environment. A value that is wrong stops it at the start, with
the reason.
"""


def values_page() -> str:
    """The table that the chart's own README has."""
    values = chart_docs.read_values((chart_docs.CHART / "values.yaml").read_text(encoding="utf-8"))
    kept = json.loads((chart_docs.CHART / "values.schema.json").read_text(encoding="utf-8"))
    return f"{VALUES}\n{chart_docs.make_table(values, chart_docs.make_schema(values, kept))}"


def settings_page() -> str:
    """A row for each variable, from the fields and the sentences under them."""
    texts = _sentences()
    rows = [
        (f"`PILOTFISH_{name.upper()}`", _default(field.get_default(call_default_factory=False)), cell(texts[name]))
        for name, field in OperatorSettings.model_fields.items()
    ]
    return "\n".join((SETTINGS, *table(("variable", "default", "what it is"), rows), ""))


def _default(value: object) -> str:
    if value is None or value is PydanticUndefined or value in ("", ()):
        return ""
    if isinstance(value, tuple):
        words = [word if isinstance(word, str) else json.dumps(word) for word in value]
        return code(",".join(words) if all(isinstance(word, str) for word in value) else f"[{','.join(words)}]")
    return code(str(value))


def _sentences() -> dict[str, str]:
    """The string under each field of the class."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(OperatorSettings)))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef))
    told: dict[str, str] = {}
    for field, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            said = after.value if isinstance(after, ast.Expr) else None
            told[field.target.id] = said.value if isinstance(said, ast.Constant) and isinstance(said.value, str) else ""
    return told
