"""Make a `.pt2` harmless or refuse it.

torch.export.load runs pickles, evaluates strings and calls whatever a node names. This works on the zip and its JSON
alone, without torch. Everything is an allow-list; the copy that is loaded is written anew from what was read here, so
that no second reader of the zip can see anything else.
"""

import ast
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.archives import check_zip
from pilotfish.optimizer.errors import OptimizerError

_PARTS = re.compile(
    r"(data/weights/(weight_\d+|\w+_weights_config\.json)"
    r"|data/constants/(tensor_\d+|\w+_constants_config\.json)"
    r"|data/sample_inputs/\w+\.pt|models/\w+\.json"
    r"|archive_format|archive_version|byteorder|\.data/(version|serialization_id)|\.format_version)"
)
_TARGETS = re.compile(
    r"torch\.ops\.(aten|prims|torchvision|higher_order)\.\w+(\.\w+)?"
    r"|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|pow|neg|eq|ne|lt|le|gt|ge|and_|or_|not_)"
    r"|torch\.sym_(int|float|max|min|ite|not|sum)|torch\._sym_sqrt|math\.(ceil|floor|trunc)"
)
_REFUSED_OPS = re.compile(r"torch\.ops\.aten\.(from_file|save|_print|.*file.*)\b")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*|")
_TREE_TYPES = frozenset({"builtins.list", "builtins.tuple", "builtins.dict", "collections.OrderedDict", None})
_FUNCTIONS = (
    "Symbol Integer Rational Float Add Mul Pow Max Min Mod FloorDiv CeilDiv PythonMod Eq Ne Lt Le Gt Ge StrictLessThan "
    "LessThan StrictGreaterThan GreaterThan Equality Unequality And Or Not true false TruncToInt CleanDiv "
    "ModularIndexing Where IntTrueDiv"
)
_SYMPY = frozenset(_FUNCTIONS.split())
_EXPRESSION = (
    ast.Expression, ast.Call, ast.Name, ast.Load, ast.keyword, ast.Constant, ast.BinOp, ast.UnaryOp, ast.Compare,
    ast.operator, ast.unaryop, ast.cmpop,
)  # fmt: skip
_SYMBOL = re.compile(r"[A-Za-z_]\w*")


def write_clean(source: Path, target: Path) -> None:
    """Write a copy of a `.pt2` that holds tensors and a graph of known operators and nothing else.

    Raises:
        OptimizerError: UnsafeModel with the part that could run code, ModelInvalid when the archive is none.
    """
    names = check_zip(source)
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as clean:
        for name in names:
            tail = name.split("/", 1)[-1]
            data = _part(source, tail, archive.read(name))
            clean.writestr(name, data)


def _part(source: Path, tail: str, data: bytes) -> bytes:
    if not _PARTS.fullmatch(tail):
        raise _unsafe(source, f"holds the part {tail!r}")
    if tail.startswith("data/sample_inputs/"):
        if data:
            raise _unsafe(source, "holds pickled sample inputs")
        return data
    if not tail.endswith(".json"):
        return data
    try:
        content = json.loads(data)
    except ValueError as error:
        raise OptimizerError(
            Reason.MODEL_INVALID,
            f"{source.name}: {tail} is no JSON ({error}); save the model again with pilotfish.pack",
        ) from error
    for key, value in _pairs(content):
        _check(source, key, value)
    if tail.startswith("models/") and isinstance(content, dict):
        content["guards_code"] = []  # Python source that the loader would compile; checks only, never needed to run
    return json.dumps(content).encode()


def _check(source: Path, key: str, value: Any) -> None:
    if key == "use_pickle" and value:
        raise _unsafe(source, "holds a pickled tensor")
    if key == "path_name" and isinstance(value, str) and not re.fullmatch(r"(weight|tensor)_\d+", value):
        raise _unsafe(source, f"refers to the object {value!r}")
    if key in {"target", "as_operator"} and isinstance(value, str) and not _is_operator(value):
        raise _unsafe(source, f"calls {value!r}")
    if key in {"expr_str", "as_expr"} and isinstance(value, str) and not _is_arithmetic(value):
        raise _unsafe(source, f"evaluates {value[:60]!r}")
    if key in {"as_custom_obj", "as_script_object"} and value:
        raise _unsafe(source, "holds an object of a custom class")
    if key in {"name", "as_name"} and isinstance(value, str) and not _IDENTIFIER.fullmatch(value):
        raise _unsafe(source, f"names a value {value[:60]!r}")
    if key == "forward_arg_names" and not all(isinstance(n, str) and n.isidentifier() for n in value or ()):
        raise _unsafe(source, "names an argument with something that is no name")
    if key in {"in_spec", "out_spec"} and isinstance(value, str):
        _check_tree(source, value)


def _check_tree(source: Path, text: str) -> None:
    try:
        tree = json.loads(text) if text else None
    except ValueError as error:
        raise _unsafe(source, "describes its arguments in an unknown way") from error
    for key, value in _pairs(tree):
        if key == "type" and (isinstance(value, (dict, list)) or value not in _TREE_TYPES):
            raise _unsafe(source, f"takes or returns a {value!r}")


def _is_arithmetic(text: str) -> bool:
    """True for numbers, symbols and known functions of them: nothing that sympify could be made to run."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError):
        return False
    for node in ast.walk(tree):
        if not isinstance(node, _EXPRESSION):
            return False
        if isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id in _SYMPY):
            return False
        if isinstance(node, ast.Name) and node.id not in _SYMPY and not re.fullmatch(r"[a-z]+\d+", node.id):
            return False
        if isinstance(node, ast.Constant) and not isinstance(node.value, (int, float)) and not _is_symbol(node.value):
            return False
    return True


def _is_symbol(value: object) -> bool:
    return isinstance(value, str) and _SYMBOL.fullmatch(value) is not None


def _is_operator(name: str) -> bool:
    return _TARGETS.fullmatch(name) is not None and not _REFUSED_OPS.match(name)


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, at any depth."""
    stack = [value]
    while stack:
        top = stack.pop()
        if isinstance(top, dict):
            yield from top.items()
            stack.extend(top.values())
        elif isinstance(top, list):
            stack.extend(top)


def _unsafe(source: Path, what: str) -> OptimizerError:
    return OptimizerError(
        Reason.UNSAFE_MODEL,
        f"{source.name} {what}, which could run code when it is opened; save the model with pilotfish.pack, "
        "or set spec.model.trust: Executable if you trust it",
    )
