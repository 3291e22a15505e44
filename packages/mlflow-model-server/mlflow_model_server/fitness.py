"""True if the model is one that this image can serve, before anything of it is loaded."""

from __future__ import annotations

import os
import re
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Any

import yaml
from mlflow_entrypoint.errors import EntrypointError
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from pathlib import Path

_SHOWN = 5
_FLAVOR = "python_function"
_OWN = {"mlflow", "mlflow-skinny", "mlflow-tracing"}
"""The server's own MLflow serves every model that it can load."""
_OPTIONS = re.compile(r"\s+(?:--\S|#)")


def flavor(model: Path) -> dict[str, Any]:
    """Read what the model says of its flavor python_function.

    Raises:
        EntrypointError: there is no model, or it has none.
    """
    file = model / "MLmodel"
    try:
        described = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise EntrypointError(_absent(model)) from None
    except PermissionError:
        raise EntrypointError(_unreadable(file)) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        raise EntrypointError(f"{file} is no YAML file: save the model anew") from None
    flavors = described.get("flavors") if isinstance(described, dict) else None
    found = flavors.get(_FLAVOR) if isinstance(flavors, dict) else None
    if not isinstance(found, dict):
        raise EntrypointError(
            f"the model at {model} has no flavor {_FLAVOR}, which is what is served:"
            " save it with an MLflow flavor that has one, or by mlflow.pyfunc"
        )
    return found


def _unreadable(file: Path) -> str:
    return f"{file} can't be read by user {os.getuid()}: make the model's files readable for all"


def _absent(model: Path) -> str:
    mend = f"mount the model's folder there, or copy it into the image (`invoke model`): {model}"
    if not model.is_dir():
        return f"there is no model at {model}: {mend}/MLmodel is looked for"
    if not any(model.iterdir()):
        return f"{model} is empty: {mend}/MLmodel is looked for"
    nested = sorted(path.parent.name for path in model.glob("*/MLmodel"))
    hint = f"; there is one in {model / nested[0]}" if nested else ""
    return f"{model} is no MLflow model, for it has no file MLmodel{hint}: {mend}/MLmodel"


def unmet(model: Path, described: dict[str, Any]) -> str | None:
    """Say what the model requires and the image lacks, in one line; None where it has it all.

    Raises:
        EntrypointError: the model's requirements can't be read.
    """
    faults = [*_python(described), *_distributions(model)]
    if not faults:
        return None
    more = f" and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    shown = ", ".join(faults[:_SHOWN])
    return f"the image doesn't meet the model's requirements: {shown}{more}"


def _python(described: dict[str, Any]) -> list[str]:
    wanted = str(described.get("python_version") or "").split(".")[:2]
    if len(wanted) < 2 or wanted == [str(part) for part in sys.version_info[:2]]:
        return []
    return [f"Python {'.'.join(wanted)} (is {sys.version_info[0]}.{sys.version_info[1]})"]


def _distributions(model: Path) -> list[str]:
    file = model / "requirements.txt"
    try:
        lines = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except PermissionError:
        raise EntrypointError(_unreadable(file)) from None
    except (OSError, UnicodeDecodeError):
        raise EntrypointError(f"{file} is no UTF-8 text file: save the model anew") from None
    faults = []
    for line in lines.replace("\\\n", " ").splitlines():
        requirement = _requirement(line)
        if requirement is None:
            continue
        try:
            installed = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            faults.append(f"{requirement.name}{requirement.specifier} (is not installed)")
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            faults.append(f"{requirement.name}{requirement.specifier} (is {installed})")
    return faults


def _requirement(line: str) -> Requirement | None:
    """The distribution that a line requires here; None where that can't be told by its version."""
    text = _OPTIONS.split(f" {line.strip()}", maxsplit=1)[0].strip()
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return None  # empty, an option, a URL, or a path
    if requirement.url or canonicalize_name(requirement.name) in _OWN:
        return None
    if requirement.marker and not requirement.marker.evaluate():
        return None
    return requirement
