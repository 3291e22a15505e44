"""`invoke model`: the image that serves one model."""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock
from rich.markup import escape

from seatrial import catalogue
from seatrial.build import build
from seatrial.build.bake import StepError
from seatrial.build.builder import find
from seatrial.build.network import indexes
from seatrial.console import make_console
from seatrial.engine import connection
from seatrial.errors import UserError, without_password
from seatrial.model import description, locking, requirements
from seatrial.model.fetching import MAX_GIB, fetch, hide_passwords
from seatrial.project import current

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from seatrial.build.record import Made

LOCKS = "models"
"""The folder of what the environments of models' images were locked to, by the reference without
its tag: the next version of a model gets the environment of the one before, wherever its
requirements allow."""

_CHECK = '/mlflow-model-server", "check"]'
"""The step of the build in which the model loads and answers, and how its words begin."""
_SAYS = "mlflow-entrypoint: "

# https://github.com/distribution/reference: a host with a port, a path, a tag.
_REFERENCE = re.compile(
    r"([a-zA-Z0-9][a-zA-Z0-9.-]*(:[0-9]+)?/)?"
    r"[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*"
    r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
)
_LONGEST_TAG = 240
"""Registries take a name of 255; a file of this name is made, with an ending."""
_LONGEST_REASON = 600
"""Characters; a model writes what it likes."""


def run(
    *,
    model_uri: str,
    tag: str,
    platform: str = "native",
    tracking_uri: str = "",
    builder: str = "",
    push: bool = False,
    allow_emulated_build: bool = False,
    allow_index: Sequence[str] = (),
    allow_unsigned: bool = False,
    max_gib: int = MAX_GIB,
) -> list[Made]:
    """Build the image that serves a model, once the model has loaded and answered in it.

    Args:
        model_uri: `models:/...`, `runs:/...`, `s3://...` or a folder.
        tag: the image's reference.
        platform: native, amd64, arm64 or all.
        tracking_uri: of the tracking server; empty for what MLflow's own variables say.
        builder: one that `docker buildx ls` lists; empty for the one in use.
        push: push to the registry that the tag names.
        allow_emulated_build: build what has no wheel from its source, on the image's platform.
        allow_index: addresses beside this machine's own indexes that packages may come from.
        allow_unsigned: take a model without a signature: nothing checks its input.
        max_gib: the most that the model's files may have, in units of 2^30 bytes.

    Raises:
        UserError: the model cannot be had, is none that can be served, or the image cannot be made.
    """
    if not _REFERENCE.fullmatch(tag):
        raise UserError(
            f"--tag {tag!r} is no image reference, such as wine:3 or registry.example/team/wine:3"
        )
    if len(tag) > _LONGEST_TAG:
        raise UserError(f"--tag is longer than {_LONGEST_TAG} characters: shorten it")
    wanted = connection.resolve_platforms(platform)
    shown = without_password(model_uri)
    with build.report_full_disk(), tempfile.TemporaryDirectory(prefix="seatrial-model-") as scratch:
        folder = fetch(model_uri, tracking_uri, Path(scratch), max_gib=max_gib)
        model = description.read(folder, shown)
        own = [word for value in indexes(os.environ).values() for word in value.split()]
        required = requirements.read(folder, allow_index, own)
        for words in required.unmet:
            make_console().print(f"[yellow]not in the image:[/] {escape(words)}", highlight=False)
        if not (model.signature or allow_unsigned):
            raise UserError(
                f"the model {shown} has no signature, so its server could not tell good input from "
                "bad: log it with signature or input_example, or give --allow-unsigned"
            )
        locking.require_python(model)
        host = find(builder or None)
        with _lists(tag) as lists:
            sources = locking.lock(
                required,
                model.mlflow,
                # The model is tried on the builder's own, whatever the image is for.
                dict.fromkeys((*wanted, host.platform)),
                lists,
                locking.Resolver(host, builder or None),
                build_sources=allow_emulated_build,
            )
            hide_passwords(folder, required.files)
            variables = {
                "BUILD_PLATFORM": host.platform,
                "MODEL_FILES": str(folder),
                "MODEL_LISTS": str(lists),
                "MODEL_SOURCES": "yes" if sources else "",
                "MODEL_TAG": tag,
                "MODEL_URI": shown,
                "MODEL_RUN": model.run,
                "MODEL_ID": model.identity,
                "MODEL_NAME": model.name,
                "MODEL_VERSION": model.version,
                "MODEL_SIGNATURE": model.signature,
                "MODEL_MLFLOW": model.mlflow,
            }
            chosen = catalogue.load_builtin(variables)
            order = build.Order(
                chosen=chosen,
                images=list(chosen.models.values()),
                platforms=wanted,
                host=host,
                builder=builder or None,
                push=push,
                weigh=False,
                variables=variables,
            )
            return _make(order, shown)


@contextmanager
def _lists(tag: str) -> Iterator[Path]:
    """Give the folder of the lists for a reference, to one run at a time: a build reads them."""
    name = tag.rpartition(":")[0] if ":" in tag.rpartition("/")[2] else tag
    folder = current().kept(LOCKS) / re.sub(r"[^A-Za-z0-9.-]", "_", name)
    # No reference begins with a dot: the file is at no other's place.
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        yield folder


def _make(order: build.Order, uri: str) -> list[Made]:
    try:
        return build.make(order)
    except StepError as error:
        if _CHECK in error.step.action and (lines := error.step.tail()):
            why = lines[-1].removeprefix(_SAYS)[:_LONGEST_REASON]
            raise UserError(f"no image is made of {uri}: {why}") from error
        raise
