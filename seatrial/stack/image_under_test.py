"""An image under test on one platform, and what its configuration says."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from docker.errors import APIError, ImageNotFound, NotFound

from seatrial.contract import Contract, load
from seatrial.engine.connection import native_platform
from seatrial.engine.machine_speed import MACHINE_SPEED
from seatrial.errors import UserError

if TYPE_CHECKING:
    from docker import DockerClient

    from seatrial.stack.labels import Session

EMULATION_SCALE = 8
"""Factor of time limits under emulation; an arm64 server measured 5 to 7 times."""

EMULATED = {"linux/arm64": {"QEMU_CPU": "neoverse-n1"}}
"""Variables of emulated containers, by platform: the processor that QEMU stands for.

On the one of its own choice, whose vectors have 2048 bits, OpenBLAS multiplies matrices wrongly
(numpy 2.5.5 under QEMU 10.0: `a @ b` is off by 7), and programs take 30 % longer."""


class HiddenValues(dict[str, str]):
    """Texts by name, of which only the names are printed."""

    def __repr__(self) -> str:
        """The names."""
        return f"<{', '.join(sorted(self))}>"


@dataclass(frozen=True)
class ImageConfiguration:
    """Configuration of the image itself, on the platform under test."""

    image_id: str
    """The digest of what the reference names: an index, where it holds several platforms.

    Containers are started from it, so that a run tries one image, whatever is built meanwhile."""
    # What may hold secrets is not shown: pytest prints the arguments of a test that fails.
    entrypoint: tuple[str, ...] = field(repr=False)
    environment: dict[str, str]
    labels: dict[str, str]
    working_directory: str
    exposed_ports: tuple[int, ...]
    user: str = ""
    """User as the image says it: a name or a number, with a group or without; empty for root."""
    healthcheck: tuple[str, ...] = field(default=(), repr=False)
    """The kind of the check, such as `CMD`, and its words; empty where there is none."""

    def __post_init__(self) -> None:
        """Hide the values of variables and labels from whoever prints them."""
        object.__setattr__(self, "environment", HiddenValues(self.environment))
        object.__setattr__(self, "labels", HiddenValues(self.labels))

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """The configuration whose fields `value` has, as JSON knows them."""
        lists = {name: tuple(values) for name, values in value.items() if isinstance(values, list)}
        return cls(**{**value, **lists})


NOT_BUILT = ImageConfiguration("", (), {}, {}, "", ())
"""Configuration of images that the trial builds when a test asks for them."""


@dataclass(frozen=True)
class ImageUnderTest:
    """An image under test: its reference, the platform that is run, and its contract."""

    name: str
    """The variant, or the reference where the image is not of the catalogue."""
    reference: str
    platform: str
    native: bool
    contract_path: Path
    contract: Contract
    configuration: ImageConfiguration
    overlay: Path | None = None
    """A folder whose files stand in place of the image's own in every container of it."""

    @classmethod
    def of(
        cls,
        name: str,
        reference: str,
        platform: str,
        contract_path: Path,
        configuration: ImageConfiguration,
    ) -> Self:
        """The image with the contract of that file, on this engine.

        Raises:
            UserError: there is no such contract, or it is none.
        """
        return cls(
            name=name,
            reference=reference,
            platform=platform,
            native=platform == native_platform(),
            contract_path=contract_path,
            contract=load(contract_path),
            configuration=configuration,
        )

    @property
    def label(self) -> str:
        """Name in reports, such as `custom-amd64`."""
        return f"{self.name}-{self.platform.removeprefix('linux/')}"

    @property
    def scale(self) -> int:
        """Factor of every time limit, by emulation and by the machine's slowness."""
        return MACHINE_SPEED.factor * (1 if self.native else EMULATION_SCALE)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that every container of it gets."""
        emulated = {} if self.native else EMULATED.get(self.platform, {})
        return {**self.contract.start.environment, **emulated}

    @property
    def overlaid(self) -> dict[str, str]:
        """The files of the overlay, and their paths in every container, which mounts them."""
        if self.overlay is None:
            return {}
        files = sorted(path for path in self.overlay.rglob("*") if path.is_file())
        return {str(file): f"/{file.relative_to(self.overlay).as_posix()}" for file in files}

    @property
    def workers(self) -> int:
        """Number of processes that a server gets: two, so that every test also meets the other one.

        One under emulation, where uvicorn takes a worker that is slow to answer for a dead one.
        """
        return 2 if self.native else 1

    @property
    def server_command(self) -> list[str]:
        """Command that starts the server, before its options."""
        if self.contract.start.command is not None:
            return list(self.contract.start.command)
        entrypoint = self.configuration.entrypoint
        is_mlflow = bool(entrypoint) and Path(entrypoint[-1]).name == "mlflow"
        return ["server"] if is_mlflow else ["mlflow", "server"]

    @property
    def mlflow_command(self) -> list[str]:
        """Command that runs the `mlflow` program in the container, before its arguments."""
        *program, last = self.server_command or [""]
        return program if last == "server" else ["mlflow"]


def configuration_of(
    client: DockerClient, session: Session, reference: str, platform: str
) -> ImageConfiguration | None:
    """Read the configuration of a local image on `platform`; None where the store has no such.

    The engine's API shows an image on its own platform only, but a container that was created (and
    never started) carries the configuration of the platform that was asked for.
    """
    try:
        container = client.containers.create(
            reference, command=["true"], platform=platform, labels=session.labels
        )
    except (ImageNotFound, NotFound):
        return None
    try:
        image_id = container.attrs["Image"]
        config = container.attrs["Config"]
    finally:
        container.remove(v=True)  # an image that declares volumes has got some
    pairs = (entry.partition("=") for entry in config["Env"] or [])
    ports = config.get("ExposedPorts") or {}
    return ImageConfiguration(
        image_id=image_id,
        entrypoint=tuple(config["Entrypoint"] or ()),
        environment={name: value for name, _, value in pairs},
        labels={
            name: value
            for name, value in (config["Labels"] or {}).items()
            if name not in session.labels
        },
        working_directory=config["WorkingDir"],
        exposed_ports=tuple(sorted(int(port.partition("/")[0]) for port in ports)),
        user=config["User"],
        healthcheck=tuple((config.get("Healthcheck") or {}).get("Test") or ()),
    )


def pull(client: DockerClient, reference: str, platform: str) -> None:
    """Pull a foreign image.

    Raises:
        UserError: it is not to be had.
    """
    try:
        client.images.pull(reference, platform=platform)
    except APIError as error:
        reason = " ".join(str(error.explanation or error).split())
        raise UserError(
            f"image '{reference}' for {platform} is neither in the engine's store nor can it be"
            f" pulled: {reason}"
        ) from None
