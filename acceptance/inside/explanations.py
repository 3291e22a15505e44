"""Run every subcommand of `mlflow` with `--help`, and print exit codes and texts as JSON.

The arguments are the command that starts the program. A program that is a script of this
interpreter runs in a fork of this process, where MLflow is loaded already: to start Python anew for
each of the subcommands would take minutes. The fork runs the same file with the same arguments.
"""

import io
import json
import os
import runpy
import shutil
import subprocess
import sys
import traceback

import click
import mlflow
from mlflow.cli import cli


def subcommands(command: click.Command, words: list[str]) -> list[list[str]]:
    """Walk the tree of commands, and return the words of each subcommand, groups included."""
    found = [words]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None:
                found += subcommands(child, [*words, name])
    return found


def script_of_this_interpreter(program: str) -> "str | None":
    """Return the path of `program` where it is a script that this interpreter runs."""
    path = shutil.which(program)
    if path is None:
        return None
    with open(path, "rb") as file:  # noqa: PTH123
        first = file.readline(4096).decode(errors="replace").split()
    if not first or not first[0].startswith("#!"):
        return None
    named = shutil.which(first[1]) if first[0] == "#!/usr/bin/env" else first[0][2:]
    return path if named and os.path.realpath(named) == os.path.realpath(sys.executable) else None


def forked(script: str, words: list[str]) -> "tuple[int, str]":
    """Run a script in a fork, with `words` as its command line; return exit code and output."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(write, 1)
        os.dup2(write, 2)
        code = 1
        try:
            sys.argv = words
            runpy.run_path(script, run_name="__main__")
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:  # noqa: BLE001 - as an interpreter does at its end
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    os.close(write)
    with io.open(read, encoding="utf-8", errors="replace") as output:  # noqa: UP020
        printed = output.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), printed


def run(words: list[str]) -> "tuple[int, str]":
    """Run a command line in a process of its own; return exit code and output."""
    done = subprocess.run(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.returncode, done.stdout


def main(start: list[str]) -> None:
    """Print the version and, for each subcommand, its words, exit code and text."""
    script = script_of_this_interpreter(start[0])
    answers = []
    for words in subcommands(cli, []):
        line = [*start, *words, "--help"]
        code, text = forked(script, line) if script else run(line)
        answers.append([words, code, text])
    print(json.dumps({"version": mlflow.__version__, "answers": answers}))


if __name__ == "__main__":
    main(sys.argv[1:])
