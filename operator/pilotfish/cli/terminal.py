"""What the commands share: options, the two streams, and how one ends that cannot go on."""

from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from pilotfish.api.base import parse_duration
from pilotfish.cli.completion import complete_names

NOT_FOUND = 3
"""Exit code where the object that was named does not exist."""

Name = Annotated[str, typer.Argument(help="The ModelDeployment.", autocompletion=complete_names)]
Namespace = Annotated[str | None, typer.Option("--namespace", "-n", help="Default: that of the kubeconfig's context.")]
Kubeconfig = Annotated[Path | None, typer.Option(envvar="KUBECONFIG", help="Default: ~/.kube/config.")]
Context = Annotated[str | None, typer.Option(help="Context of the kubeconfig.")]

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """One line or several, as they are."""
    out.print(text, markup=False)


def fail(sentence: str, *, code: int = 1) -> NoReturn:
    """One sentence and the exit code."""
    err.print(f"error: {sentence}", markup=False)
    raise typer.Exit(code)


def seconds_of(text: str, *, option: str) -> float:
    """The seconds of a duration that was given with an option. Raises typer.BadParameter."""
    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error
