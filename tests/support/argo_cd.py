"""Lua the way Argo CD runs it: `obj` is the object, and of the libraries there are base, table and os.time, os.date."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lupa.lua51

from support.apiserver import REPOSITORY

FOLDER = REPOSITORY / "integrations" / "argo-cd"
# Everything else that this Lua has by itself.
_SANDBOX = """
os = {time = os.time, date = os.date}
for _, name in ipairs({"string", "math", "io", "debug", "coroutine", "python", "dofile", "loadfile", "load", "loadstring"}) do
  _G[name] = nil
end
"""


def run_lua(path: Path, obj: Mapping[str, Any]) -> Any:
    """What the script returns, in plain Python."""
    runtime = lupa.lua51.LuaRuntime(register_eval=False, register_builtins=False, unpack_returned_tuples=True)
    runtime.execute(_SANDBOX)
    # Literals have a metatable that would give methods of strings away again.
    runtime.globals().obj = _to_lua(runtime, obj)
    return _to_python(runtime.execute(path.read_text(encoding="utf-8")))


def health(obj: Mapping[str, Any]) -> tuple[str, str]:
    """Status and message."""
    found = run_lua(FOLDER / "health.lua", obj)
    return found["status"], found["message"]


def enabled_actions(obj: Mapping[str, Any]) -> set[str]:
    """The actions that a person may click."""
    found = run_lua(FOLDER / "actions" / "discovery.lua", obj)
    return {name for name, action in found.items() if not action.get("disabled")}


def act(name: str, obj: Mapping[str, Any]) -> dict[str, Any]:
    """The object after the action."""
    changed: dict[str, Any] = run_lua(FOLDER / "actions" / name / "action.lua", obj)
    return changed


def _to_lua(runtime: Any, value: Any) -> Any:
    """JSON as Argo CD's converter gives it: lists count from 1, null is nil."""
    if isinstance(value, Mapping):
        return runtime.table_from({key: _to_lua(runtime, below) for key, below in value.items() if below is not None})
    if isinstance(value, list | tuple):
        return runtime.table_from([_to_lua(runtime, below) for below in value])
    return value


def _to_python(value: Any) -> Any:
    if lupa.lua51.lua_type(value) != "table":
        return value
    keys = list(value.keys())
    if keys and all(isinstance(key, int) for key in keys):
        return [_to_python(value[key]) for key in sorted(keys)]
    return {key: _to_python(value[key]) for key in keys}
