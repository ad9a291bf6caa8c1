"""`pilotfish init MODEL`: look at a model, write a first manifest with a reason for each value, say what comes next."""

import re
import shlex
from dataclasses import replace
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from pilotfish.api.crd import MAX_NAME
from pilotfish.api.model import DataType
from pilotfish.cli.check import check
from pilotfish.cli.init.choices import Said, Undecided, choose
from pilotfish.cli.init.manifest import make_manifest
from pilotfish.cli.terminal import err, fail

_EVERYDAY = {"model", "models", "saved_model", "pytorch_model", "weights", "checkpoint", "export"}
"""Names of files that say nothing; the folder's name does."""
_UPLOADS = {"s3": "aws s3 cp{deep}", "gs": "gcloud storage cp{deep}", "hf": "", "pvc": "", "oci": ""}


def init(
    source: Annotated[Path, typer.Argument(metavar="MODEL", help="A model file or folder.", show_default=False)],
    *,
    name: Annotated[str | None, typer.Option(help="Of the ModelDeployment. Default: from the file's name.")] = None,
    uri: Annotated[str | None, typer.Option(help="Where the cluster reads the model. Default: a proposal.")] = None,
    secret: Annotated[str | None, typer.Option(help="Secret with the credentials for the uri.")] = None,
    gpus: Annotated[int | None, typer.Option(min=0, max=16, help="Of each pod. Default: by the model's size.")] = None,
    factory: Annotated[
        str | None, typer.Option(help="Code that bare weights belong to, such as torchvision.models.resnet18.")
    ] = None,
    tensor: Annotated[
        list[str] | None,
        typer.Option(help="An input that the file does not say: NAME:DTYPE:SIZES, image:FP32:3x224x224."),
    ] = None,
    trust_code: Annotated[bool, typer.Option("--trust-code", help="The model may bring code that runs.")] = False,
    pin: Annotated[bool, typer.Option("--pin", help="Write the digest: serve these bytes and no others.")] = False,
    out_file: Annotated[Path | None, typer.Option("--out", help="Write it there. Default: standard output.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace that file.")] = False,
) -> None:
    """Write a ModelDeployment for a model file or folder. Needs the optimizer's packages, no cluster and no torch."""
    chosen = name or name_from(source)
    proposed = f"s3://models/{chosen}/v1/" + ("" if source.is_dir() else source.name)
    said = Said(
        name=chosen,
        uri=uri or proposed,
        uri_is_proposed=uri is None,
        secret=secret,
        gpus=gpus,
        factory=factory,
        inputs=tuple(parse_tensor(text) for text in tensor or ()),
        trusts_code=trust_code,
    )
    text = _make(source, said, pin=pin)
    if findings := check(yaml.safe_load(text)):
        fail("; ".join(str(finding) for finding in findings))
    if out_file is None:
        typer.echo(text, nl=False)
    else:
        _write(out_file, text, force=force)
    _tell_what_is_next(source, said, out_file)


def name_from(source: Path) -> str:
    """A name that Kubernetes takes, from the file's or else its folder's."""
    path = source.resolve()
    stem = path.name if path.is_dir() else path.name.split(".")[0]
    word = path.parent.name if stem.lower() in _EVERYDAY else stem
    tidy = re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-")
    tidy = tidy if tidy[:1].isalpha() else f"model-{tidy}"
    return tidy[:MAX_NAME].strip("-")


def parse_tensor(text: str) -> dict[str, Any]:
    """From NAME:DTYPE:SIZES to a tensor of spec.model.signature. Raises typer.BadParameter."""
    name, dtype, sizes = [*text.rsplit(":", 2), "", ""][:3]
    numbers = [part for part in sizes.split("x") if part]
    known = {one.value for one in DataType}
    if not name or dtype not in known or not all(re.fullmatch(r"-1|[0-9]{1,9}", number) for number in numbers):
        raise typer.BadParameter(
            f"{text!r} is no tensor: write NAME:DTYPE:SIZES such as image:FP32:3x224x224, without the batch",
            param_hint="--tensor",
        )
    return {"name": name, "dtype": dtype, "shape": [int(number) for number in numbers]}


def _make(source: Path, said: Said, *, pin: bool) -> str:
    try:
        from pilotfish.cli.init.look import digest, look_at  # noqa: PLC0415 - heavy, and only needed here
        from pilotfish.optimizer.errors import OptimizerError  # noqa: PLC0415
    except ImportError as error:
        fail(f"{error}; reading models needs pip install 'pilotfish[optimizer]'")
    try:
        seen = look_at(source)
        if pin:
            said = replace(said, digest=digest(source))
        return make_manifest(said.name, choose(seen, said), seen, version=distribution_version("pilotfish"))
    except (OptimizerError, Undecided) as error:
        fail(f"{source}: {error}")
    except OSError as error:
        fail(f"{error.filename or source}: {error.strerror}")
    except ImportError as error:
        fail(f"{source}: {error}; reading this model needs pip install 'pilotfish[optimizer]'")


def _write(target: Path, text: str, *, force: bool) -> None:
    try:
        with target.open("w" if force else "x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        fail(f"{target} is there already; give --force to replace it")
    except OSError as error:
        fail(f"{target}: {error.strerror}")


def _tell_what_is_next(source: Path, said: Said, out_file: Path | None) -> None:
    """On the error stream, so that standard output is the manifest alone."""
    file = shlex.quote(str(out_file)) if out_file else f"{said.name}.yaml"
    upload = _UPLOADS.get(said.uri.partition("://")[0], "").format(deep=" --recursive" if source.is_dir() else "")
    commands = [
        *([f"{upload} {shlex.quote(str(source))} {shlex.quote(said.uri)}"] if upload else []),
        f"pilotfish lint -f {file}",
        f"kubectl apply -f {file}",
        f"pilotfish get {said.name} --watch",
        f"pilotfish predict {said.name} --example",
    ]
    if said.uri_is_proposed:
        err.print("spec.model.uri is a proposal: change it to where your models lie", markup=False)
    err.print("next:\n" + "\n".join(f"  {command}" for command in commands), markup=False)
