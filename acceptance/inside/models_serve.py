"""Serve a model by `mlflow models serve`, ask it, stop it, and print the answers as JSON.

The arguments are the factor of the time limits, the path of the model, and the command that starts
the program.
"""

import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

TIME_LIMIT = 90
"""Seconds until the first answer; the trial ends the container when its own limit is over."""
STOP_LIMIT = 20
"""Seconds after SIGTERM."""


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(
    url: str, body: "bytes | None" = None, content_type: str = "application/json"
) -> "tuple[int, str]":
    """Send a request, and return status and text of the answer; status 0 where nobody listens."""
    request = urllib.request.Request(url, body, {"Content-Type": content_type})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except OSError as error:
        return 0, str(error)


def main(scale: int, model: str, start: "list[str]") -> None:
    """Print the answers, the exit code and the output of the server."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    options = ["--model-uri", model, "--env-manager", "local", "--port", str(port)]
    with tempfile.TemporaryFile("w+") as output:
        server = subprocess.Popen(
            [*start, "models", "serve", *options], stdout=output, stderr=subprocess.STDOUT
        )
        deadline = time.monotonic() + TIME_LIMIT * scale
        while (ping := ask(f"{url}/ping"))[0] != 200 and server.poll() is None:
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
        invocations = f"{url}/invocations"
        split = {"dataframe_split": {"columns": ["x"], "data": [[1], [2.5], [-4]]}}
        answers = {
            "ping": ping,
            "dataframe_split": ask(invocations, json.dumps(split).encode()),
            "csv": ask(invocations, b"x\n1\n2.5\n-4\n", "text/csv"),
            "no JSON": ask(invocations, b"{"),
            "ping at the end": ask(f"{url}/ping"),
        }
        ended = server.poll()
        if ended is None:
            server.send_signal(signal.SIGTERM)
            try:
                ended = server.wait(STOP_LIMIT * scale)
            except subprocess.TimeoutExpired:
                server.kill()
        output.seek(0)
        print(json.dumps({"answers": answers, "code": ended, "output": output.read()}))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
