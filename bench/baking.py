"""Builds by bake alone, with the variables of `invoke build`.

Their images, as those of every build here, have a registry of their own: nothing that a person
built is replaced.
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from bench import BAKE_FILE, PROJECT, ROOT
from seatrial import catalogue
from seatrial.build import build, network, record, revision
from seatrial.build.builder import Builder, find
from seatrial.catalogue.bake_file import environment
from seatrial.engine import connection

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from bench.runner import Runner
    from seatrial.catalogue import Catalogue

REGISTRY = "seatrial-bench"
_FOLDER = ROOT / "bench" / "emulated"
BASELINES = _FOLDER / "docker-bake.hcl"
ANEW = _FOLDER / "anew.hcl"
"""Makes the measured steps run, whatever the cache holds."""
# Only what is asked for goes into the store, and files outside the folder are read.
_LIKE_INVOKE_BUILD = {"BUILDX_NO_DEFAULT_LOAD": "1", "BUILDX_BAKE_ENTITLEMENTS_FS": "0"}
_SCRIPTS = ROOT / "docker" / "bases" / "scripts"


@dataclass(frozen=True)
class Baker:
    """Bake on the builder inside the engine, where CPU time can be measured."""

    runner: Runner
    catalogue: Catalogue
    builder: Builder
    variables: Mapping[str, str]

    def bake(
        self,
        targets: Sequence[str],
        settings: Sequence[str],
        *,
        anew: bool = False,
    ) -> None:
        """Build targets of the catalogue or of the baselines.

        Args:
            targets: their names.
            settings: `TARGET.KEY=VALUE`.
            anew: run the steps that make the Python environment.

        Raises:
            UserError: a step failed.
        """
        with ExitStack() as stack:
            more = stack.enter_context(_changed_inputs()) if anew else {}
            self.runner.run(
                [
                    *("docker", "buildx", "bake", "--builder", self.builder.name),
                    *("--file", str(BAKE_FILE), "--file", str(BASELINES), "--progress", "plain"),
                    *(("--file", str(ANEW)) if anew else ()),
                    *(part for setting in settings for part in ("--set", setting)),
                    *targets,
                ],
                {**self.variables, **_LIKE_INVOKE_BUILD, **more},
            )

    def settings(self, name: str, *platforms: str) -> list[str]:
        """Word bake's settings for the platforms of an image of the catalogue."""
        images = [self.catalogue.images[name]]
        spread = build.spread(self.catalogue, images, platforms, self.builder, push=False)
        compression = self.catalogue.arguments["COMPRESSION"]
        return build.settings(spread, images, self.builder, compression, push=False)


@contextmanager
def baker(runner: Runner) -> Iterator[Baker]:
    """Make a baker, from the bases that the last build of a measurement stood on.

    Raises:
        UserError: the engine or its builder does not answer.
    """
    host = find("default")
    chosen = catalogue.load({"REGISTRY": REGISTRY}, {"BUILD_PLATFORM": host.platform})
    with network.secrets() as secrets:
        variables = environment(
            chosen.arguments,
            {
                **_bases(),
                "BUILD_PLATFORM": host.platform,
                **secrets,
                **revision.of(PROJECT).variables,
            },
        )
        yield Baker(runner, chosen, host, variables)


def distributions(name: str, platform: str) -> set[str]:
    """Read which Python distributions a built image holds, without running it.

    Args:
        name: of the target.
        platform: of the image; foreign ones will do.

    Returns:
        The names of their `.dist-info` folders, which hold name and version.
    """
    with closing(connection.connect()) as client:
        container = client.containers.create(f"{REGISTRY}/{name}:latest", platform=platform)
        command = ["docker", "export", str(container.id)]
        try:
            with subprocess.Popen(command, stdout=subprocess.PIPE) as export:
                assert export.stdout
                with tarfile.open(fileobj=export.stdout, mode="r|") as archive:
                    return information_folders(member.name for member in archive)
        finally:
            container.remove()


def information_folders(paths: Iterable[str]) -> set[str]:
    """Pick the `.dist-info` folders out of a file system's paths."""
    return {
        part
        for path in paths
        for part in PurePosixPath(path).parent.parts
        if part.endswith(".dist-info")
    }


def remove_images() -> None:
    """Remove the tags that measurements made; layers that other images share stay."""
    with closing(connection.connect()) as client:
        for image in client.images.list(filters={"reference": f"{REGISTRY}/*"}):
            for tag in image.tags:
                if tag.startswith(f"{REGISTRY}/"):
                    client.images.remove(tag)


@contextmanager
def _changed_inputs() -> Iterator[dict[str, str]]:
    """Give variables of `ANEW` that no build had before."""
    moment = datetime.now(UTC).isoformat()
    with tempfile.TemporaryDirectory(prefix="seatrial-bench-") as folder:
        scripts = Path(folder, "scripts")
        shutil.copytree(_SCRIPTS, scripts)
        Path(scripts, "moment").write_text(moment, encoding="utf-8")
        yield {"SCRIPTS": str(scripts), "MOMENT": moment}


def _bases() -> dict[str, str]:
    """Read the bases of a measurement's newest build."""
    for document in record.newest_first():
        if document["arguments"].get("REGISTRY") == REGISTRY:
            bases: dict[str, str] = document["bases"]
            return bases
    msg = "every measurement begins with `invoke build`, which leaves a record"
    raise LookupError(msg)
