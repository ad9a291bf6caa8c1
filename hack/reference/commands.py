"""The page of the command line: every command with its arguments and options, from the program itself."""

from collections.abc import Iterator
from typing import Any

import typer

from pilotfish.cli.main import app
from reference.markdown import cell, table

INTRO = """\
# Commands

Every command of `pilotfish`, which is `kubectl pilotfish` too. Made from the program by `hack/generate`; [The command
line](../cli.md) says how they are used and what their exit codes mean.
"""


def commands_page() -> str:
    """The whole page."""
    root = typer.main.get_command(app)
    return "\n".join((INTRO, *_sections(root, "pilotfish")))


def _sections(command: Any, path: str) -> Iterator[str]:
    members = getattr(command, "commands", None)
    if members is None:
        yield _section(command, path)
        return
    for name, member in members.items():
        if not member.hidden:
            yield from _sections(member, f"{path} {name}")


def _section(command: Any, path: str) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    usage = " ".join([path, *(_shown(one) for one in arguments), *(["[OPTIONS]"] if options else [])])
    rows = [(f"`{_shown(one)}`", "", cell(one.help or "")) for one in arguments]
    rows += [(_names(one), _default(one), cell(_told(one))) for one in options]
    lines = [f"## {path}", "", (command.help or "").strip(), "", f"`{usage}`", ""]
    return "\n".join([*lines, *table(("argument or option", "default", "what it is"), rows), ""] if rows else lines)


def _shown(argument: Any) -> str:
    name = (argument.metavar or argument.name).upper()
    return name if argument.required else f"[{name}]"


def _names(option: Any) -> str:
    names = [*option.opts, *option.secondary_opts]
    return ", ".join(f"`{name}`" for name in names)


def _told(option: Any) -> str:
    told = option.help or ""
    variable = option.envvar
    return " ".join(
        [told, *(["*Required.*"] if option.required else []), *([f"Variable: `{variable}`."] if variable else [])]
    )


def _default(option: Any) -> str:
    value = option.default
    if callable(value) or value is None or value is False or value == () or option.required:
        return ""
    return f"`{getattr(value, 'value', value)}`"
