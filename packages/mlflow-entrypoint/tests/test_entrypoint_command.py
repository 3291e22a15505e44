"""The entry point: what the container's command and environment are made into."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest
from mlflow.cli import cli
from mlflow_entrypoint import admission, command, options, server, settings
from mlflow_entrypoint.errors import EntrypointError
from mlflow_entrypoint.variables import drop_service_links, expand

if TYPE_CHECKING:
    from mlflow_entrypoint.server import Server

URL = "postgresql+psycopg2://mlflow:s3cret@postgres:5432/mlflowdb"


@pytest.mark.parametrize(
    ("words", "general", "rest", "starts"),
    [
        ([], [], ["server"], True),
        (["mlflow"], [], ["server"], True),
        (["server"], [], ["server"], True),
        (["mlflow", "server", "--port", "8080"], [], ["server", "--port", "8080"], True),
        (["ui"], [], ["ui"], True),
        (["server", "--help"], [], ["server", "--help"], False),
        (["--version"], [], ["--version"], False),
        (["mlflow", "--version"], [], ["--version"], False),
        (["mlflow", "models", "serve"], [], ["models", "serve"], False),
        (["db", "upgrade", URL], [], ["db", "upgrade", URL], False),
        (["--env-file", "a", "server"], ["--env-file", "a"], ["server"], True),
        (["--env-file=a"], ["--env-file=a"], ["server"], True),
        (["--port", "8080"], [], ["--port", "8080"], False),
    ],
)
def test_command(words: list[str], general: list[str], rest: list[str], starts: bool) -> None:
    found = command.read(words)
    assert (found.general, found.rest, found.starts_server) == (general, rest, starts)


def test_environment_files_are_found() -> None:
    found = command.read(["--env-file", "a", "--env-file=b", "server"])
    assert found.environment_files == ["a", "b"]


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("${HOST}", "example"),
        ("http://${HOST}:${PORT}/", "http://example:80/"),
        ("${NOBODY:-other}", "other"),
        ("${EMPTY:-other}", "other"),
        ("${EMPTY}", ""),
        ("${NOBODY:-}", ""),
        ("$${HOST}", "${HOST}"),
        ("${INNER}", "${HOST}"),
        ("$HOST ${} ${1} {HOST}", "$HOST ${} ${1} {HOST}"),
    ],
)
def test_variables(argument: str, expected: str) -> None:
    environment = {"HOST": "example", "PORT": "80", "EMPTY": "", "INNER": "${HOST}"}
    assert expand(argument, environment) == expected


def test_variable_that_is_not_set() -> None:
    with pytest.raises(EntrypointError, match=r"'\$\{NOBODY\}' .* variable NOBODY is not set"):
        expand("x${NOBODY}", {})


def test_options_are_mlflows() -> None:
    """The table says what MLflow's own command line says."""
    valued: dict[str, object] = {}
    flags = {"--help"}
    for parameter in cli.commands["server"].params:
        assert isinstance(parameter, click.Option)
        names = [*parameter.opts, *parameter.secondary_opts]
        if parameter.is_flag:
            flags.update(names)
        else:
            long, *short = sorted(names, key=len, reverse=True)
            valued[long] = parameter.envvar
            assert all(options.SHORT[one] == long for one in short)
    assert valued == options.VALUED
    assert flags == options.FLAGS


PRINTED = ["--backend-store-uri", "--default-artifact-root", "--host", "0.0.0.0", "--port"]


@pytest.mark.parametrize(
    "words",
    [
        PRINTED,
        ["--backend-store-uri", "", "--default-artifact-root", "", "--host", "0.0.0.0", "--port="],
        ["--backend-store-uri=", "--default-artifact-root", "-h", "0.0.0.0", "-p"],
    ],
)
def test_blanks(words: list[str]) -> None:
    found = options.read(words)
    assert found.blanks == {"--backend-store-uri", "--default-artifact-root", "--port"}
    assert found.values == {"--host": "0.0.0.0"}
    assert found.arguments == words[words.index("0.0.0.0") - 1 : words.index("0.0.0.0") + 1]


@pytest.mark.parametrize(
    "words",
    [
        ["--uvicorn-opts", "--reload"],
        ["--gunicorn-opts", "--timeout 60"],
        ["--app-name", "--dev"],
        ["--static-prefix", "-x"],
        ["-p5001", "-w", "2"],
        ["--port=5001", "--serve-artifacts", "--unknown", "word"],
        ["--host", "1.2.3.4", "--host", "0.0.0.0"],
        ["--waitress-opts"],
    ],
)
def test_real_values_are_no_blanks(words: list[str]) -> None:
    found = options.read(words)
    assert not found.blanks
    assert found.arguments == words


def test_explicit_value_beats_a_blank() -> None:
    assert options.read(["--port", "1", "--port"]).blanks == set()


def settle(words: list[str], **environment: str) -> tuple[Server, dict[str, str]]:
    return server.settle(words, environment), environment


def test_defaults() -> None:
    found, environment = settle([])
    assert found.backend == "sqlite:///mlflow.db"
    assert environment == {
        **settings.SERVER,
        **settings.DATABASE,
        "MLFLOW_ARTIFACTS_DESTINATION": "./mlruns",
        "MLFLOW_UVICORN_OPTS": settings.uvicorn_options({}),
    }
    assert environment["MLFLOW_HOST"] == "0.0.0.0"


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        (["--uvicorn-opts", "--http h11 --ws auto", "--port", "1"], {}),
        (["--uvicorn-opts=--http h11 --ws auto", "--port", "1"], {}),
        (["--port", "1"], {"MLFLOW_UVICORN_OPTS": "--http h11 --ws auto"}),
    ],
)
def test_users_options_of_uvicorn_win(words: list[str], variables: dict[str, str]) -> None:
    """Uvicorn takes the last one."""
    found, environment = settle(words, **variables)
    assert environment["MLFLOW_UVICORN_OPTS"] == (
        f"{settings.uvicorn_options({})} --http h11 --ws auto"
    )
    assert found.arguments == ["--port", "1"]


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        (["--gunicorn-opts", "--timeout 60"], {}),
        (["--waitress-opts=--threads=8"], {}),
        (["--dev"], {}),
        ([], {"MLFLOW_GUNICORN_OPTS": "--timeout 60"}),
    ],
)
def test_another_server_gets_no_options_of_uvicorn(
    words: list[str], variables: dict[str, str]
) -> None:
    """MLflow refuses options for two servers."""
    found, environment = settle(words, **variables)
    assert "MLFLOW_UVICORN_OPTS" not in environment
    assert found.arguments == words


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MLFLOW_MAX_REQUEST_BYTES", "64 MiB"),
        ("MLFLOW_MAX_REQUEST_BYTES", "-1"),
        ("MLFLOW_DATABASE_TIMEOUT", "soon"),
    ],
)
def test_limits_that_are_no_numbers(name: str, value: str) -> None:
    with pytest.raises(EntrypointError, match=f"{name} is '{value}'"):
        settle([], **{name: value})


def test_environment_alone() -> None:
    found, environment = settle(
        [],
        MLFLOW_SERVER_HOST="127.0.0.1",
        MLFLOW_SERVER_PORT="8080",
        BACKEND_STORE_URI=URL,
        ARTIFACT_ROOT="s3://bucket",
        MLFLOW_WORKERS="3",
    )
    assert (found.backend, found.backend_variable, found.arguments) == (
        URL,
        "BACKEND_STORE_URI",
        [],
    )
    wanted = {
        "MLFLOW_HOST": "127.0.0.1",
        "MLFLOW_PORT": "8080",
        "MLFLOW_BACKEND_STORE_URI": URL,
        "MLFLOW_ARTIFACTS_DESTINATION": "s3://bucket",
        "MLFLOW_WORKERS": "3",
    }
    assert wanted.items() <= environment.items()
    assert "MLFLOW_DEFAULT_ARTIFACT_ROOT" not in environment


def test_connections_are_kept_where_the_database_is_no_file() -> None:
    pool = "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE"
    assert settle([], BACKEND_STORE_URI=URL)[1][pool] == "10"
    assert settle(["--backend-store-uri", URL])[1][pool] == "10"
    assert settle([], BACKEND_STORE_URI=URL, **{pool: "3"})[1][pool] == "3"
    assert pool not in settle([])[1]


@pytest.mark.parametrize("pool", ["NullPool", "StaticPool", "AssertionPool", "SingletonThreadPool"])
def test_pool_without_a_size_gets_none(pool: str) -> None:
    """SQLAlchemy refuses a size for it, and MLflow would not start."""
    _, environment = settle([], BACKEND_STORE_URI=URL, MLFLOW_SQLALCHEMYSTORE_POOLCLASS=pool)
    assert not settings.POOL.keys() & environment.keys()
    _, environment = settle([], BACKEND_STORE_URI=URL, MLFLOW_SQLALCHEMYSTORE_POOLCLASS="QueuePool")
    assert settings.POOL.items() <= environment.items()


def test_variables_of_uvicorn_win_over_the_images_options() -> None:
    _, environment = settle([], UVICORN_WS="auto", UVICORN_TIMEOUT_KEEP_ALIVE="5")
    assert environment["MLFLOW_UVICORN_OPTS"] == "--http mlflow_entrypoint.front:Protocol"


def test_limit_of_the_gateway_raises_the_one_of_requests() -> None:
    variables = {"MLFLOW_GATEWAY_MAX_DECOMPRESSED_REQUEST_SIZE": "200000000"}
    assert settle([], **variables)[1]["MLFLOW_MAX_REQUEST_BYTES"] == "200000000"
    both = variables | {"MLFLOW_MAX_REQUEST_BYTES": "1000"}
    assert settle([], **both)[1]["MLFLOW_MAX_REQUEST_BYTES"] == "1000"


DECIDED = {
    "MLFLOW_BACKEND_STORE_URI": URL,
    "MLFLOW_READ_REPLICA_BACKEND_STORE_URI": URL,
    "MLFLOW_REGISTRY_STORE_URI": URL,
    "MLFLOW_WORKSPACE_STORE_URI": URL,
    "MLFLOW_DEFAULT_ARTIFACT_ROOT": "s3://bucket/a",
    "MLFLOW_ARTIFACTS_DESTINATION": "s3://bucket/b",
    "MLFLOW_HOST": "127.0.0.1",
    "MLFLOW_PORT": "5001",
    "MLFLOW_WORKERS": "3",
    "MLFLOW_STATIC_PREFIX": "/mlflow",
    "MLFLOW_SERVER_ALLOWED_HOSTS": "example.org",
    "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": "https://example.org",
    "MLFLOW_SERVER_X_FRAME_OPTIONS": "DENY",
    "MLFLOW_EXPOSE_PROMETHEUS": "/tmp/metrics",
    "MLFLOW_TRACE_ARCHIVAL_CONFIG": "/archive.yaml",
    "MLFLOW_SERVE_ARTIFACTS": "y",
    "MLFLOW_ARTIFACTS_ONLY": "f",
    "MLFLOW_DISABLE_TELEMETRY": "false",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "true",
    "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "3",
    "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": "-1",
    "MLFLOW_SQLALCHEMYSTORE_POOL_RECYCLE": "60",
    "MLFLOW_SQLALCHEMYSTORE_ECHO": "true",
    "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "QueuePool",
}
"""MLflow's variables for its server, each with another value than the image's own."""


def test_variables_of_mlflow_stay_as_they_are() -> None:
    """Those of its command line are all among them, but one that has options before the user's."""
    _, environment = settle([], **DECIDED)
    assert DECIDED.items() <= environment.items()
    named = {variable for variable in options.VALUED.values() if variable}
    assert named - DECIDED.keys() == {"MLFLOW_UVICORN_OPTS", "MLFLOW_GUNICORN_OPTS"}


@pytest.mark.parametrize(
    ("overflow", "running"), [("-1", admission.STREAMS), ("0", 13), ("4", 7), ("", 13)]
)
def test_requests_at_work(monkeypatch: pytest.MonkeyPatch, overflow: str, running: int) -> None:
    """As many as MLflow's pool has connections: there zero counts as unset."""
    monkeypatch.setenv("MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", "3")
    monkeypatch.setenv("MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW", overflow)
    assert admission.limits().running == running


def test_artifact_root_of_a_server_that_passes_nothing_on() -> None:
    for words, more in ((["--no-serve-artifacts"], {}), ([], {"MLFLOW_SERVE_ARTIFACTS": "false"})):
        _, environment = settle(words, ARTIFACT_ROOT="s3://bucket", **more)
        assert environment["MLFLOW_DEFAULT_ARTIFACT_ROOT"] == "s3://bucket"
        assert "MLFLOW_ARTIFACTS_DESTINATION" not in environment


def test_blanks_take_the_variables() -> None:
    found, environment = settle(
        PRINTED,
        BACKEND_STORE_URI=URL,
        ARTIFACT_ROOT="s3://bucket",
        MLFLOW_SERVER_HOST="::",
        MLFLOW_SERVER_PORT="5001",
    )
    assert found.arguments == ["--host", "0.0.0.0"]
    assert found.backend == URL
    assert environment["MLFLOW_DEFAULT_ARTIFACT_ROOT"] == "s3://bucket"
    assert environment["MLFLOW_PORT"] == "5001"
    assert "MLFLOW_ARTIFACTS_DESTINATION" not in environment


@pytest.mark.parametrize("missing", ["BACKEND_STORE_URI", "ARTIFACT_ROOT", "MLFLOW_SERVER_PORT"])
def test_blank_without_a_variable(missing: str) -> None:
    environment = {
        "BACKEND_STORE_URI": URL,
        "ARTIFACT_ROOT": "s3://bucket",
        "MLFLOW_SERVER_PORT": "5001",
    }
    del environment[missing]
    with pytest.raises(EntrypointError, match=f"has no value and {missing} or .* is not set"):
        server.settle(PRINTED, environment)


@pytest.mark.parametrize(
    "environment",
    [
        {"MLFLOW_PORT": "1", "MLFLOW_SERVER_PORT": "2"},
        {"MLFLOW_BACKEND_STORE_URI": URL, "BACKEND_STORE_URI": "sqlite:///a.db"},
        {"MLFLOW_ARTIFACTS_DESTINATION": "s3://a", "ARTIFACT_ROOT": "s3://b"},
    ],
)
def test_contradictions_are_refused(environment: dict[str, str]) -> None:
    first, second = environment
    with pytest.raises(EntrypointError, match="both set and differ") as failure:
        server.settle([], environment)
    assert first in str(failure.value)
    assert second in str(failure.value)
    assert "s3cret" not in str(failure.value)


def test_option_settles_a_contradiction() -> None:
    found, _ = settle(["--port", "3"], MLFLOW_PORT="1", MLFLOW_SERVER_PORT="2")
    assert found.arguments == ["--port", "3"]


def test_explicit_options_win() -> None:
    found, environment = settle(
        ["--backend-store-uri", "sqlite:///b.db", "--artifacts-destination", "s3://b"],
        BACKEND_STORE_URI=URL,
        ARTIFACT_ROOT="s3://a",
    )
    assert (found.backend, found.backend_variable) == ("sqlite:///b.db", None)
    assert "MLFLOW_ARTIFACTS_DESTINATION" not in environment


def test_local_default_root_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    settle(["--default-artifact-root", "./mlruns"])
    assert "./mlruns is a path that clients write to" in capsys.readouterr().err
    settle(["--default-artifact-root", "s3://bucket"])
    assert not capsys.readouterr().err


LINKS = {
    "MLFLOW_SERVICE_HOST": "10.0.0.1",
    "MLFLOW_SERVICE_PORT": "80",
    "MLFLOW_PORT": "tcp://10.0.0.1:80",
    "MLFLOW_PORT_80_TCP": "tcp://10.0.0.1:80",
    "MLFLOW_PORT_80_TCP_PROTO": "tcp",
    "MLFLOW_SERVER_PORT": "udp://10.0.0.1:80",
    "MLFLOW_MODELS_PORT": "sctp://10.0.0.1:80",
    "UVICORN_PORT": "tcp://10.0.0.1:80",
}


def test_service_links_of_kubernetes_are_no_ports() -> None:
    environment = {**LINKS, "POSTGRES_PORT": "tcp://10.0.0.2:5432", "MLFLOW_OTHER_PORT": "8080"}
    drop_service_links(environment)
    links = {"MLFLOW_PORT", "MLFLOW_SERVER_PORT", "MLFLOW_MODELS_PORT", "UVICORN_PORT"}
    assert environment.keys() == (LINKS.keys() | {"POSTGRES_PORT", "MLFLOW_OTHER_PORT"}) - links
    _, settled = settle([], **environment)
    assert settled["MLFLOW_PORT"] == "5000"


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (f'"{URL}"', "quotes around"),
        (f"'{URL}'", "quotes around"),
        (f'"{URL}', "a quote before"),
        (f"{URL} ", "a blank around"),
        (f" {URL}", "a blank around"),
        (f"{URL}\r", "a line end .* around"),
        (f"{URL}\n", "a line end .* around"),
    ],
)
@pytest.mark.parametrize(
    ("words", "variable"),
    [
        ([], "BACKEND_STORE_URI"),
        ([], "MLFLOW_REGISTRY_STORE_URI"),
        (["--backend-store-uri", "{}"], None),
        (["--registry-store-uri={}"], None),
    ],
)
def test_values_with_something_around(
    value: str, found: str, words: list[str], variable: str | None
) -> None:
    """A file of variables for Docker keeps quotes and line ends; the message has no password."""
    filled = [word.format(value) for word in words]
    name = variable or words[0].partition("=")[0]
    with pytest.raises(EntrypointError, match=f"{name} has {found} its value") as failure:
        settle(filled, **({variable: value} if variable else {}))
    assert "s3cret" not in str(failure.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MLFLOW_PORT", "'5000'", "has quotes around"),
        ("MLFLOW_SERVER_HOST", "0.0.0.0\r", "has a line end"),
        ("ARTIFACT_ROOT", '"s3://bucket"', "has quotes around"),
        ("AWS_SECRET_ACCESS_KEY", "a key\r", "has a line end around"),
        ("MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", "many", "takes a whole number"),
        ("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", '"NullPool"', "has quotes around"),
    ],
)
def test_other_values(name: str, value: str, message: str) -> None:
    with pytest.raises(EntrypointError, match=f"{name} .*{message}"):
        settle([], **{name: value})


def test_values_that_may_have_anything_in_them() -> None:
    variables = {
        "MLFLOW_AUTH_ADMIN_PASSWORD": "'a password' ",
        "MLFLOW_UVICORN_OPTS": " --log-level debug ",
        "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": "-1",
    }
    assert variables.items() <= settle([], **variables)[1].items() | {
        ("MLFLOW_UVICORN_OPTS", variables["MLFLOW_UVICORN_OPTS"])
    }


def test_server_of_artifacts_alone_has_no_database() -> None:
    for words, more in ((["--artifacts-only"], {}), ([], {"MLFLOW_ARTIFACTS_ONLY": "t"})):
        found, environment = settle(words, **more)
        assert found.backend is None
        assert "MLFLOW_BACKEND_STORE_URI" not in environment, "MLflow refuses it"


@pytest.mark.parametrize(("text", "value"), [("", 60.0), ("5", 5.0), ("0.5", 0.5), ("0", 0.0)])
def test_seconds(text: str, value: float) -> None:
    assert settings.seconds({"MLFLOW_DATABASE_WAIT": text}, settings.DATABASE_WAIT) == value


@pytest.mark.parametrize("text", ["soon", "-1", "inf", "nan"])
def test_seconds_that_are_none(text: str) -> None:
    with pytest.raises(EntrypointError, match="takes a number of seconds"):
        settings.seconds({"MLFLOW_DATABASE_WAIT": text}, settings.DATABASE_WAIT)


def test_switch() -> None:
    assert settings.switch({"A": "True"}, "A")
    assert not settings.switch({"A": "0"}, "A", default=True)
    assert settings.switch({}, "A", default=True)
    with pytest.raises(EntrypointError, match="takes true or false"):
        settings.switch({"A": "perhaps"}, "A")
