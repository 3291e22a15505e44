"""The folders that a run works with: a repository's, or those that come with the package.

A project is the repository that a person works in. Where that is Seatrial itself, or a fork of it,
the services of the trial and the parts of models' images are built from its folders; everywhere
else they are built from the copy in the package.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from platformdirs import user_cache_path

from seatrial.errors import UserError

PACKAGE = Path(str(resources.files("seatrial")))
"""The folder of this library: in a checkout, or installed."""
_OWN_BAKE_FILE = "docker/docker-bake.hcl"
BAKE_FILES = ("docker-bake.hcl", "docker-bake.json", _OWN_BAKE_FILE)
"""Places where a repository may have its catalogue; the first one counts."""
STATE = ".seatrial"
"""The folder in a repository for what is kept between runs."""
_PACKAGED = "packaged"
_CACHE = "seatrial"


@dataclass(frozen=True)
class Project:
    """A repository, or the folder that the package holds in place of one."""

    root: Path
    """Build contexts are relative to it."""
    bake_file: Path | None
    """The catalogue; None where there is none."""
    state: Path
    """Folder kept between runs: locks of models, bootstrapped bases, records of builds."""
    packaged: bool = False
    """True if it is the package's copy, which is no commit of any repository."""

    @property
    def has_services(self) -> bool:
        """Tell whether services, bases and models' images are built from its own folders."""
        return (self.root / "docker" / "services").is_dir()

    def kept(self, name: str | Path) -> Path:
        """The folder of that name in the state, made where it is not there; git ignores it.

        Raises:
            UserError: it cannot be made.
        """
        folder, ignored = self.state / name, self.state / ".gitignore"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not ignored.exists():
                ignored.write_text("*\n", encoding="utf-8")
        except PermissionError as error:
            raise UserError(
                f"nothing can be kept in {self.state}: {error.strerror}; XDG_CACHE_HOME names"
                " another place for what belongs to no repository"
            ) from None
        return folder

    @property
    def acceptance(self) -> Path:
        """Folder of its own acceptance tests, which may not be there."""
        return self.root / "acceptance"

    @property
    def program(self) -> str:
        """Command that a person types before the name of a task."""
        return "invoke" if self.has_services and (self.root / "tasks.py").is_file() else "seatrial"

    def require_bake_file(self) -> Path:
        """The catalogue.

        Raises:
            UserError: there is none.
        """
        if self.bake_file is None:
            raise UserError(
                f"there is no catalogue in {self.root} or above it ({', '.join(BAKE_FILES)}): run"
                " in a repository that has one, or try one image with `seatrial test --image`"
            )
        return self.bake_file

    def shown(self, path: Path) -> str:
        """A path as people know it: relative to the project where it is inside."""
        return str(path.relative_to(self.root) if path.is_relative_to(self.root) else path)


def current() -> Project:
    """The project of the working folder: the nearest folder above with a catalogue."""
    return _find(Path.cwd())


def builtin() -> Project:
    """The project with the services: the current one if it has them, else the package's own.

    A wheel holds a copy of the folders; a package that is used out of a checkout, such as an
    editable install, stands beside them.

    Raises:
        UserError: the package is neither.
    """
    here = current()
    if here.has_services:
        return here
    root, checkout = PACKAGE / _PACKAGED, PACKAGE.parent
    found = (
        Project(root, root / _OWN_BAKE_FILE, user_cache_path(_CACHE), packaged=True),
        Project(checkout, checkout / _OWN_BAKE_FILE, checkout / STATE),
    )
    for project in found:
        if project.has_services:
            return project
    raise UserError(f"there are no services in {PACKAGE} or beside it: install seatrial's wheel")


def command(words: str) -> str:
    """A task and its options as a person types them here, in backquotes."""
    return f"`{current().program} {words}`"


@cache
def _find(start: Path) -> Project:
    for folder in (start, *start.parents):
        is_root = (folder / ".git").exists()
        # The folder `docker` of a repository is not its root.
        inside = folder.name == Path(_OWN_BAKE_FILE).parent.name and not is_root
        for name in () if inside else BAKE_FILES:
            if (folder / name).is_file():
                return Project(folder, folder / name, folder / STATE)
        # A catalogue above a repository is somebody else's.
        if is_root:
            break
    return Project(start, None, user_cache_path(_CACHE))
