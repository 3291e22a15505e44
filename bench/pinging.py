"""Check a server's health again and again, on a new connection each time, and print the times.

Arguments: host, port, path, and the seconds that it lasts. Printed is a JSON list of seconds.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException

PAUSE = 0.05
TIME_LIMIT = 5.0
"""Seconds that a check without a good answer counts as."""


def main(host: str, port: int, path: str, seconds: float) -> None:
    """Check until the time is over."""
    took = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        before = time.perf_counter()
        healthy = is_healthy(host, port, path)
        took.append(time.perf_counter() - before if healthy else TIME_LIMIT)
        time.sleep(PAUSE)
    print(json.dumps(took))


def is_healthy(host: str, port: int, path: str) -> bool:
    """Check whether a server answers 200 on a new connection."""
    with closing(HTTPConnection(host, port, timeout=TIME_LIMIT)) as connection:
        try:
            connection.request("GET", path, headers={"Host": "localhost"})
            return connection.getresponse().status == HTTPStatus.OK
        except (OSError, HTTPException):
            return False


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
