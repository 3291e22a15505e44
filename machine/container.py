"""A container that stands for somebody's machine."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from machine import ROOT

if TYPE_CHECKING:
    from docker.models.containers import Container

ENGINE_SECONDS = 60
INVOKE = f"{sys.executable} -B -m invoke"
"""The checkout is read-only in there."""

# Everything that setup might change and undo should put back.
STATE = """
import json, subprocess, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from seatrial.engine import tree
def below(folder):
    states = tree.capture(Path(folder)) if Path(folder).exists() else {}
    return {f"{folder}/{name}": [str(state), state.changed] for name, state in states.items()}
packages = subprocess.run(["dpkg-query", "--show"], capture_output=True, text=True).stdout
# What is mounted changes from outside, and the folder itself whenever something was in there.
mounts = {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
temporary = {
    name: state for name, state in below("/tmp").items()
    if name != "/tmp/." and mounts.isdisjoint({name, *map(str, Path(name).parents)} - {"/", "/tmp"})
}
print(json.dumps({
    **below("/etc"), **temporary, **below("/var/lib/seatrial"),
    **{f"package {line}": [] for line in packages.splitlines()},
}))
"""


@dataclass
class CommandResult:
    """Exit code and output of a command."""

    code: int
    output: str


@dataclass
class Machine:
    """A container that stands for somebody's machine."""

    container: Container

    def run(self, command: str) -> CommandResult:
        """Run a shell command as root."""
        return self._execute("sh", "-c", command)

    def _execute(self, *command: str) -> CommandResult:
        code, output = self.container.exec_run(list(command), workdir=str(ROOT))
        assert code is not None
        assert isinstance(output, bytes)
        return CommandResult(code, output.decode(errors="replace"))

    def do(self, command: str) -> str:
        """Run a shell command that must succeed, and return what it wrote."""
        result = self.run(command)
        assert result.code == 0, f"`{command}` ended with {result.code}:\n{result.output}"
        return result.output

    def setup(self, *options: str) -> CommandResult:
        """Run `invoke setup` with options."""
        return self.run(f"{INVOKE} setup {' '.join(options)}")

    def write(self, path: str, content: str) -> None:
        """Write a file, with the folders above it."""
        self.do(f"mkdir -p {Path(path).parent}")
        self.do(f"cat > {path} << 'END'\n{content}\nEND")

    def state(self) -> dict[str, list[object]]:
        """Describe /etc, what is installed, and where setup keeps its record."""
        result = self._execute(sys.executable, "-B", "-c", STATE, str(ROOT))
        assert result.code == 0, result.output
        found: dict[str, list[object]] = json.loads(result.output)
        return found

    def start_engine(self) -> None:
        """Start the engine by hand."""
        self.do("(dockerd > /var/log/by-hand.log 2>&1 &)")
        self.wait("docker version")

    def stop_engine(self) -> None:
        """Stop the engine by hand, and wait for its end."""
        self.do("kill $(cat /var/run/docker.pid)")
        self.wait("! pgrep -x dockerd && ! pgrep -x containerd")

    def wait(self, condition: str) -> None:
        """Wait for a shell command to succeed."""
        many = 5 * ENGINE_SECONDS
        result = self.run(
            f"for _ in $(seq {many}); do {{ {condition}; }} && exit; sleep 0.2; done; exit 1"
        )
        assert result.code == 0, f"`{condition}` is never true: {result.output}"

    def make_image(self, name: str) -> None:
        """Put an image into the engine's store."""
        self.do(f"tar -c -C / bin/busybox | docker import - {name}")

    @property
    def images(self) -> set[str]:
        """The names of the images in the engine."""
        return set(self.do("docker image ls --format '{{.Repository}}'").split())


def differences(before: dict[str, list[object]], after: dict[str, list[object]]) -> list[str]:
    """Name what is not the same."""
    return sorted(
        f"{name}: {before.get(name)} -> {after.get(name)}"
        for name in before.keys() | after.keys()
        if before.get(name) != after.get(name)
    )
