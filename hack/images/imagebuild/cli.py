"""`hack/images/build [IMAGE …]`: what is unchanged is left alone."""

import argparse
import fcntl
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imagebuild.catalog import IMAGES, Image, content_key, select
from imagebuild.engine import Builder, Order, choose
from imagebuild.machine import cache_folder, make_pip_settings, read_settings
from imagebuild.progress import BuildError, say


def main(argv: list[str] | None = None) -> int:
    """Build what was asked for; 0 when every image is there afterwards."""
    options = _parse(argv)
    began = time.monotonic()
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    try:
        images = select(options.images)
        arguments = dict(_argument(text) for text in options.build_arg)
        with _alone(cache / "lock"):
            builder = choose(cache)
            say(f"Images with {builder.name}: {', '.join(image.name for image in images)}")
            builder.prepare()
            arguments.setdefault("BASE", builder.base)
            for image in images:
                key = content_key(image, base=arguments["BASE"], arguments=arguments)
                if options.force or builder.key_of(image.reference(options.tag)) != key:
                    _build(builder, image, options, key=key, arguments=arguments)
                else:
                    say(f"  unchanged  {image.reference(options.tag)}")
    except (BuildError, ValueError) as error:
        say(f"error: {error}")
        return 1
    say(f"Images ready after {time.monotonic() - began:.1f} s")
    return 0


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock of this machine's builds."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("  waiting for another build on this machine to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(builder: Builder, image: Image, options: argparse.Namespace, *, key: str, arguments: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory(prefix="pilotfish-build-") as scratch:
        order = Order(
            image=image,
            tag=options.tag,
            key=key,
            arguments=arguments,
            pip=make_pip_settings(read_settings()),
            scratch=Path(scratch),
            logs=cache_folder() / "logs",
        )
        seconds = builder.build(order)
    say(f"  {seconds:6.1f} s  {image.reference(options.tag)}")


def _argument(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not (name and separator):
        raise ValueError(f"--build-arg {text!r} is not NAME=VALUE")
    return name, value


def _parse(argv: list[str] | None) -> argparse.Namespace:
    names = ", ".join(image.name for image in IMAGES)
    parser = argparse.ArgumentParser(prog="build", description="Build the project's images; unchanged ones stay.")
    parser.add_argument("images", nargs="*", metavar="IMAGE", help=f"{names}, or all (the default)")
    parser.add_argument("--tag", default="dev", help="tag of the images (default: dev)")
    parser.add_argument("--force", action="store_true", help="build even what is unchanged; cached layers still count")
    parser.add_argument(
        "--build-arg",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an argument of the Dockerfiles: BASE, TORCH_INDEX, TORCH_REQUIREMENTS, REQUIREMENTS",
    )
    return parser.parse_args(argv)
