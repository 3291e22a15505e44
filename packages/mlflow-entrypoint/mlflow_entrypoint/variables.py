"""`${NAME}` in arguments, which no shell expands in an image that has none."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlflow_entrypoint.errors import EntrypointError

if TYPE_CHECKING:
    from collections.abc import Mapping

_REFERENCE = re.compile(r"\$(?P<escape>\$)?\{(?P<name>[A-Za-z_]\w*)(?::-(?P<default>[^{}]*))?\}")


def expand(argument: str, environment: Mapping[str, str]) -> str:
    """Replace `${NAME}` and `${NAME:-default}`; `$${NAME}` stands for `${NAME}` itself.

    Values are taken as they are: a `${NAME}` inside one is not expanded again.

    Raises:
        EntrypointError: a variable is not set and has no default.
    """

    def value(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        if match["escape"]:
            return match[0][1:]
        if default is not None:
            return environment.get(name) or default
        if name not in environment:
            raise EntrypointError(
                f"'${{{name}}}' stands in the command, but the variable {name} is not set"
            )
        return environment[name]

    return _REFERENCE.sub(value, argument)
