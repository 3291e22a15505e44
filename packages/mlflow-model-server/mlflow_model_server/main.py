"""Turn the container's arguments into a running server."""

from __future__ import annotations

import os
import sys
from functools import partial

from mlflow_entrypoint.errors import EntrypointError, say
from mlflow_entrypoint.supervisor import supervise

from mlflow_model_server import check, ending, manager, model_home, service_links, settings


def main() -> int:
    """Serve the model until a signal comes.

    Returns:
        the exit code.
    """
    arguments = sys.argv[1:]
    if arguments in (["--help"], ["-h"]):
        print(settings.HELP, end="")
        return 0
    if arguments not in ([], ["serve"], ["check"]):  # SageMaker says `serve`
        say(
            f"'{' '.join(arguments)}' is no argument of this image: it takes serve, check or --help"
        )
        return 2
    service_links.drop(os.environ)
    try:
        settled = settings.read(os.environ)
    except EntrypointError as error:
        say(str(error))
        return 1
    settings.apply(settled, os.environ)
    model_home.prepare(os.environ)
    if arguments == ["check"]:
        ending.leave(check.run(settled))
    return supervise(partial(manager.run, settled), server=True, stop_wait=settled.stop_wait)


if __name__ == "__main__":
    sys.exit(main())
