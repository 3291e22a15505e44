"""The commands that people and CI type: each a thin front for one function of the library.

`invoke` finds them through the repository's tasks.py; `seatrial` is a program of its own.
"""

from __future__ import annotations

import functools
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection
from invoke.exceptions import Exit
from invoke.program import Program
from invoke.tasks import Task, task

from seatrial import __version__, scratch
from seatrial.errors import UserError, printable
from seatrial.trial import options

if TYPE_CHECKING:
    from collections.abc import Callable

    from invoke.context import Context


def command(
    *,
    iterable: list[str] | None = None,
    help: dict[str, str] | None = None,
    outlived: bool = False,
) -> Callable[..., Any]:
    """Make an invoke task whose user errors are one line and exit code 2.

    Args:
        iterable: options that may be given more than once.
        help: on each option.
        outlived: whether it starts programs that go on after it, so that the temporary files of
            what it starts do not go with it.
    """

    def decorate(function: Callable[..., None]) -> Any:  # noqa: ANN401
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401
            try:
                with nullcontext() if outlived else scratch.for_temporary_files():
                    function(*args, **kwargs)
            except UserError as error:
                # Part of it may be the words of a server, or of a program in a container.
                raise Exit(f"seatrial: {printable(str(error))}", code=2) from None
            except KeyboardInterrupt:
                raise Exit("seatrial: interrupted", code=130) from None

        return task(run, iterable=iterable or [], help=help or {}, auto_shortflags=False)

    return decorate


@command(
    outlived=True,
    help={
        "check": "report only, change nothing",
        "dry-run": "print what would be done, change nothing; goes with --start and --undo",
        "start": "also start an engine that has been stopped and has images, as it is configured",
        "undo": "take back what setup has changed",
        "keep-packages": "undo: leave the packages that setup has installed",
    },
)
def setup(
    context: Context,
    check: bool = False,
    dry_run: bool = False,
    start: bool = False,
    undo: bool = False,
    keep_packages: bool = False,
) -> None:
    """Make this machine able to build and run the images."""
    from seatrial.engine import setup as engine_setup

    if (check and (dry_run or start or undo)) or (start and undo) or (keep_packages and not undo):
        raise UserError(
            "--check, --start and --undo exclude each other; --keep-packages goes with"
            " --undo, and --dry-run with --start or --undo or alone"
        )
    if check:
        engine_setup.check()
    elif undo:
        engine_setup.take_back(keep_packages=keep_packages, dry_run=dry_run)
    else:
        engine_setup.run(start=start, dry_run=dry_run)


@command()
def doctor(context: Context) -> None:
    """Say what is wrong with this machine and how to mend it."""
    from seatrial.engine import setup as engine_setup

    engine_setup.check()


@command(
    iterable=["variant", "arg"],
    help={
        "variant": "a variant of the catalogue; may be given more than once",
        "platform": "native, amd64, arm64 or all",
        "arg": "NAME=VALUE: a variable of the catalogue; may be given more than once",
        "builder": "a builder that `docker buildx ls` lists",
        "no-cache": "build every layer anew",
        "push": "push the images to the registry that their tags name",
    },
)
def build(
    context: Context,
    variant: list[str],
    arg: list[str],
    platform: str = "native",
    builder: str = "",
    no_cache: bool = False,
    push: bool = False,
) -> None:
    """Build the images of the catalogue."""
    from seatrial.build import build as build_images

    build_images.run(
        variants=variant,
        arguments=arg,
        platform=platform,
        builder=builder or None,
        no_cache=no_cache,
        push=push,
    )


@command(
    iterable=["allow_index"],
    help={
        "model-uri": "models:/NAME@alias, runs:/RUN/model, s3://BUCKET/PATH or a folder",
        "tag": "the image's reference",
        "platform": "native, amd64, arm64 or all",
        "tracking-uri": "the tracking server (default: what MLflow's own variables say)",
        "builder": "a builder that `docker buildx ls` lists",
        "push": "push the image to the registry that the tag names",
        "allow-emulated-build": "build requirements that have no wheel, under emulation if need be",
        "allow-index": "an address beside this machine's package indexes that the model's"
        " requirements may name; may be given more than once",
        "allow-unsigned": "take a model that has no signature",
        "max-gib": "the most that the model's files may have, in GiB",
    },
)
def model(
    context: Context,
    model_uri: str,
    tag: str,
    allow_index: list[str],
    platform: str = "native",
    tracking_uri: str = "",
    builder: str = "",
    push: bool = False,
    allow_emulated_build: bool = False,
    allow_unsigned: bool = False,
    max_gib: int = 16,
) -> None:
    """Build the image that serves one logged model."""
    from seatrial.model import image

    image.run(
        model_uri=model_uri,
        tag=tag,
        platform=platform,
        tracking_uri=tracking_uri,
        builder=builder,
        push=push,
        allow_emulated_build=allow_emulated_build,
        allow_index=allow_index,
        allow_unsigned=allow_unsigned,
        max_gib=max_gib,
    )


@command()
def catalogue(context: Context) -> None:
    """Show the variants, their platforms, sizes and promises."""
    from seatrial.build import table

    table.show()


@command(help={"contract": "a contract's file: show what it promises"})
def promises(context: Context, contract: str = "") -> None:
    """Show what contracts can promise, or what one of them does."""
    from pathlib import Path

    from seatrial.console import make_console
    from seatrial.contract import listing

    make_console().print(listing.of_contract(Path(contract)) if contract else listing.of_schema())


@command(iterable=options.iterable_parameters(), help=options.task_help())
@options.as_task
def test(context: Context, **given: Any) -> None:  # noqa: ANN401
    """Try built or foreign images against real services."""
    from seatrial.trial import run_pytest as trial_command

    trial_command.run(options.as_words(given, flags=()))


@command(
    iterable=["merge"],
    help={
        "image": "REF@sha256:DIGEST, of the engine's store or of a registry",
        "variant": "the variant whose contract the image is held to",
        "platform": "native, amd64, arm64 or all",
        "out": "the file that the record is written to",
        "policy": "the policy's file",
        "merge": "a record to be joined with others; given once for each of them",
    },
)
def qualify(
    context: Context,
    merge: list[str],
    image: str = "",
    variant: str = "",
    platform: str = "native",
    out: str = "",
    policy: str = "qualification.toml",
) -> None:
    """Try exactly one digest and write the record of it, or join such records."""
    from pathlib import Path

    from seatrial.release import qualification

    if bool(image) == bool(merge) or not out:
        raise UserError("give --out, and either --image or --merge")
    if merge:
        paths = [Path(each) for each in merge]
        qualification.merge(paths, out=Path(out), policy=Path(policy))
    else:
        qualification.qualify(
            image=image, variant=variant, platform=platform, out=Path(out), policy=Path(policy)
        )


@command(
    help={
        "old": "an image of the engine's store, or the file of a qualification record",
        "new": "the other one",
        "platform": "native, amd64 or arm64",
        "old-contract": "the contract of the old one (default: its variant's)",
        "new-contract": "the contract of the new one",
        "format": "text, json or markdown",
        "out": "the file that it is written to",
    },
)
def compare(
    context: Context,
    old: str,
    new: str,
    platform: str = "native",
    old_contract: str = "",
    new_contract: str = "",
    format: str = "text",
    out: str = "",
) -> None:
    """Show what has changed from one image to another."""
    from seatrial.comparison import compare as comparing

    comparing.run(
        old,
        new,
        platform=platform,
        old_contract=old_contract,
        new_contract=new_contract,
        form=format,
        out=out,
    )


@command(
    iterable=["tag"],
    help={
        "record": "the qualification record of the digest",
        "tag": "a tag; without one, those of the branch, the pull request or the version",
        "to": "the repository that the digest goes to (default: the one that it was tried from)",
        "policy": "the policy's file",
        "key": "the private key that cosign signs with: a file or env://VARIABLE",
        "unsigned": "sign nothing",
        "dry-run": "show what would be done",
    },
)
def release(
    context: Context,
    record: str,
    tag: list[str],
    to: str = "",
    policy: str = "qualification.toml",
    key: str = "",
    unsigned: bool = False,
    dry_run: bool = False,
) -> None:
    """Give the digest of a record its tags, without a rebuild."""
    from pathlib import Path

    from seatrial.release import promotion

    promotion.release(
        record=Path(record),
        named=tag,
        to=to,
        policy=Path(policy),
        key=key,
        unsigned=unsigned,
        dry_run=dry_run,
    )


@command(
    help={
        "reference": "a tag or a digest in a registry",
        "policy": "the policy's file",
        "key": "the public key that it must be signed with",
        "unsigned": "don't look at signatures",
    },
)
def verify(
    context: Context,
    reference: str,
    policy: str = "qualification.toml",
    key: str = "",
    unsigned: bool = False,
) -> None:
    """Check a released image, from its registry alone."""
    from pathlib import Path

    from seatrial.release import verification

    verification.verify(reference=reference, policy=Path(policy), key=key, unsigned=unsigned)


@command()
def clean(context: Context) -> None:
    """Remove every container, network, volume and image that Seatrial made, and nothing else."""
    from seatrial.stack import cleaning

    cleaning.run()


@command()
def lock(context: Context) -> None:
    """Renew every lock: this environment's, and those of the images."""
    from seatrial.build import lock_files

    lock_files.refresh()


collection = Collection(*(value for value in list(globals().values()) if isinstance(value, Task)))
program = Program(name="seatrial", binary="seatrial", namespace=collection, version=__version__)
"""What the package installs as the command `seatrial`."""
