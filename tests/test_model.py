"""`invoke model` before anything is built: what it takes, and how it refuses the rest."""

from __future__ import annotations

import datetime
import errno
import http.server
import ipaddress
import ssl
import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import mlflow
import pandas as pd
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.models import infer_signature
from repository import ROOT

from seatrial.build import build
from seatrial.build.builder import Builder
from seatrial.errors import UserError, without_password
from seatrial.model import copying, description, image, locking, requirements
from seatrial.model.fetching import fetch, hide_passwords
from seatrial.project import Project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AMD, ARM = "linux/amd64", "linux/arm64"
PRUNE = ROOT / "docker" / "bases" / "scripts" / "prune"
PRUNED = ROOT / "docker" / "model-server" / "prune.txt"
FRAME = pd.DataFrame({"x": [1.0, 2.0]})


def same(model_input: pd.DataFrame) -> pd.DataFrame:
    """A model that gives back what it gets."""
    return model_input


def save(folder: Path, *requirements: str, signed: bool = True) -> Path:
    """A model that requires these."""
    mlflow.pyfunc.save_model(
        folder,
        python_model=same,
        signature=infer_signature(FRAME, FRAME) if signed else None,
        pip_requirements=list(requirements or ["mlflow==3.17.2"]),
    )
    return folder


@pytest.mark.parametrize(
    "tag",
    ["wine", "wine:3", "team/wine:v1.2", "localhost:5000/wine", "registry.example:5000/a/b-c_d:1"],
)
def test_references_are_known(tag: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no model at"):
        image.run(model_uri=str(tmp_path / "none"), tag=tag, platform="amd64")


@pytest.mark.parametrize("tag", ["Wine", "wine:", ":3", "wine 3", "wine:a:b", "-wine", "a//b", ""])
def test_what_is_no_reference_is_refused(tag: str) -> None:
    with pytest.raises(UserError, match="is no image reference, such as wine:3"):
        image.run(model_uri="nowhere", tag=tag, platform="amd64")


def test_folder_is_copied_and_readable_to_everybody(tmp_path: Path) -> None:
    source = save(tmp_path / "m")
    for path in source.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    target = tmp_path / "scratch"
    target.mkdir()
    folder = fetch(source.as_uri(), "", target)
    assert (folder / "MLmodel").read_bytes() == (source / "MLmodel").read_bytes()
    modes = {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}
    assert modes == {0o644}


@pytest.mark.parametrize("uri", ["nowhere", "file:///nowhere/at/all"])
def test_missing_folder_is_one_line(uri: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"there is no model at {uri}"):
        fetch(uri, "", tmp_path)


def test_empty_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="the folder is empty"):
        fetch(str(tmp_path / "empty"), "", tmp_path)


@pytest.mark.parametrize("name", ["exp#2", "exp?2", "exp%232", "a b"])
def test_folder_may_have_any_name(name: str, tmp_path: Path) -> None:
    source = save(tmp_path / name / "m")
    for number, uri in enumerate((str(source), source.as_uri())):
        target = tmp_path / str(number)
        target.mkdir()
        assert (fetch(uri, "", target) / "MLmodel").is_file()


def test_folder_without_a_model_is_not_copied(tmp_path: Path) -> None:
    source, target = tmp_path / "m", tmp_path / "scratch"
    target.mkdir()
    source.mkdir()
    (source / "data").write_bytes(b"much")
    with pytest.raises(UserError, match="m holds no model: there is no MLmodel in it"):
        fetch(str(source), "", target)
    assert not list(target.iterdir())


def test_full_disk_is_told_by_what_was_to_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(_: int, __: Path, target: Path, ___: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    save(tmp_path / "m")
    monkeypatch.setattr(copying, "_copy_file", fill)
    with pytest.raises(UserError, match=f"the disk is full: {tmp_path}/model/"):  # noqa: SIM117
        with build.report_full_disk():
            fetch(str(tmp_path / "m"), "", tmp_path)


def test_passwords_of_indexes_stay_out_of_the_copy(tmp_path: Path) -> None:
    source = save(tmp_path / "m")
    index = "https://index.example/simple"
    secret = f"--extra-index-url {index.replace('//', '//me:hunter2@')}"
    named = {
        "requirements.txt": f"mlflow\n-c constraints.txt\n{secret}\n# fin\u00e9\n",
        "constraints.txt": f"{secret}\n",
        "conda.yaml": f"dependencies:\n- pip:\n  - {secret}\n  - -r more.txt\n",
        "more.txt": f"{secret}\n",
    }
    for name, text in named.items():
        (source / name).write_text(text, encoding="utf-8")
    copy = fetch(str(source), "", tmp_path)
    hide_passwords(copy, requirements.read(copy, (index,)).files)
    for name, text in named.items():
        expected = text.replace("me:hunter2@", "")
        assert (copy / name).read_text(encoding="utf-8") == expected, name
        assert (source / name).read_text(encoding="utf-8") == text, f"the user's own {name}"


def test_server_that_is_down_is_one_line_without_its_password(tmp_path: Path) -> None:
    uri = "http://me:hunter2@127.0.0.1:9"
    with pytest.raises(UserError, match="it does not answer") as caught:
        fetch("models:/wine@champion", uri, tmp_path)
    assert "hunter2" not in str(caught.value)


@contextmanager
def serving(server: http.server.HTTPServer) -> Iterator[str]:
    """Let a server answer at `http://127.0.0.1:PORT`."""
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def answering(status: int, token: str = "") -> http.server.HTTPServer:
    """A server that answers everything with this; 200 to those who bring the token."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if token and self.headers["Authorization"] == f"Bearer {token}":
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                self.send_error(status)

        def log_message(self, *_: object) -> None:
            """Keep silent."""

    return http.server.HTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def broken_server() -> Iterator[str]:
    """Answers everything with 503."""
    with serving(answering(503)) as url:
        yield url


def test_server_that_is_ill_is_one_line(broken_server: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="it answers 503"):
        fetch("runs:/0123/model", broken_server, tmp_path)


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_are_told(status: int, tmp_path: Path) -> None:
    said = f"refuses the credentials .{status}.: give MLFLOW_TRACKING_USERNAME"
    with serving(answering(status)) as url, pytest.raises(UserError, match=said):
        fetch("runs:/0123/model", url, tmp_path)


def test_server_is_asked_with_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server lets in who asks for its health, and has no model then."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "letmein")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with serving(answering(401, "letmein")) as url, pytest.raises(UserError, match="cannot be had"):
        fetch("runs:/0123/model", url, tmp_path)


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[str]:
    """Answers with 503 to who trusts `certificate.pem` beside it."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    today = datetime.datetime.now(tz=datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder(name, name, private.public_key(), 7)
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(private, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    certificate.write_bytes(made.public_bytes(pem))
    key.write_bytes(private.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = answering(503)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with serving(server) as url:
        yield url.replace("http:", "https:")


def test_server_that_is_not_trusted_is_one_line(tls_server: str, tmp_path: Path) -> None:
    said = "certificate verify failed.*MLFLOW_TRACKING_SERVER_CERT_PATH"
    with pytest.raises(UserError, match=said) as caught:
        fetch("runs:/0123/model", tls_server, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MLFLOW_TRACKING_SERVER_CERT_PATH", "certificate.pem"),
        ("MLFLOW_TRACKING_INSECURE_TLS", "true"),
    ],
)
def test_server_is_trusted_as_mlflow_trusts_it(
    name: str, value: str, tls_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, str(tmp_path / value) if value.endswith(".pem") else value)
    with pytest.raises(UserError, match="it answers 503"):
        fetch("runs:/0123/model", tls_server, tmp_path)


@pytest.mark.parametrize("server", ["http://[x", "http://host:port"])
def test_server_without_an_address_is_one_line(server: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be used: Invalid url"):
        fetch("runs:/0123/model", server, tmp_path)


@pytest.mark.parametrize("uri", ["s3://[x/y", "gs://x/y", "nonsense://x/y"])
def test_address_that_cannot_be_read_is_one_line(uri: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be had: ") as caught:
        fetch(uri, "", tmp_path)
    assert "\n" not in str(caught.value)


def test_error_of_a_fetch_is_without_its_password(tmp_path: Path) -> None:
    with (
        serving(answering(404)) as url,
        pytest.raises(UserError, match="cannot be had: ") as caught,
    ):
        fetch(f"{url.replace('//', '//me:hunter2@')}/model.txt", "", tmp_path)
    assert "hunter2" not in str(caught.value)


def test_passwords_are_taken_out_of_any_text() -> None:
    text = "GET http://me:p@ss@host/a failed, as did //token@host and models:/wine@champion"
    said = "GET http://host/a failed, as did //host and models:/wine@champion"
    assert without_password(text) == said


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://me:pa/ss@host/x", "https://host/x"),
        ("git+https://me:pa/s?s#@host/repo@v1", "git+https://host/repo@v1"),
        ("git+https://host/repo@v1", "git+https://host/repo@v1"),
        ("git+https://host:8443/repo@v1", "git+https://host:8443/repo@v1"),
        ("https://me:@[::1]:80/x", "https://[::1]:80/x"),
        ("'https://me:p%40ss@host'", "'https://host'"),
    ],
)
def test_address_without_its_password(address: str, expected: str) -> None:
    assert without_password(address) == expected


def test_image_is_refused_without_the_password_of_its_address(tmp_path: Path) -> None:
    (save(tmp_path / "m") / "MLmodel").write_text("{", encoding="utf-8")
    uri = f"file://me:hunter2@localhost{tmp_path}/m"
    with pytest.raises(UserError, match=r"the MLmodel of file://localhost/.* cannot") as caught:
        image.run(model_uri=uri, tag="wine", platform="amd64")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("uri", ["models:/none@champion", "models:/none/1", "runs:/0123456789/m"])
def test_unknown_model_is_one_line(uri: str, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/mlflow.db"
    MlflowClient(store).search_experiments()  # makes the database
    (tmp_path / "target").mkdir()
    with pytest.raises(UserError, match=f"the model {uri} cannot be had: ") as caught:
        fetch(uri, store, tmp_path / "target")
    assert "\n" not in str(caught.value)


def test_server_that_is_named_is_asked_for_registered_models_too(
    broken_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", f"sqlite:///{tmp_path}/other.db")
    with pytest.raises(UserError, match="it answers 503"):
        fetch("models:/wine@champion", broken_server, tmp_path)


def test_description_of_a_model(tmp_path: Path) -> None:
    model = description.read(save(tmp_path / "m"), "m")
    assert model.mlflow == mlflow.__version__
    assert model.signature.startswith("sha256:")
    assert (model.name, model.version, model.run) == ("", "", "")


def test_signature_may_be_missing(tmp_path: Path) -> None:
    assert description.read(save(tmp_path / "m", signed=False), "m").signature == ""


@pytest.mark.parametrize("signed", [True, False])
def test_image_is_refused_to_a_model_without_a_signature(signed: bool, tmp_path: Path) -> None:
    """The model of another Python gets past that, and no further."""
    folder = save(tmp_path / "m", signed=signed)
    said = "was logged with Python" if signed else "has no signature.*--allow-unsigned"
    with pytest.raises(UserError, match=said):
        image.run(model_uri=str(folder), tag="wine", platform="amd64")


def test_what_conda_would_have_brought_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save(tmp_path / "m", signed=False)
    described = folder / "conda.yaml"
    text = described.read_text().replace("- pip:", "- open[red]jdk=11\n- pip:")
    described.write_text(text)

    with pytest.raises(UserError, match="has no signature"):
        image.run(model_uri=str(folder), tag="own:1")

    said = " ".join(capsys.readouterr().out.split())
    assert "not in the image: conda.yaml names 'open[red]jdk=11', a package of conda's" in said


def test_same_signature_has_the_same_digest(tmp_path: Path) -> None:
    one, other = (description.read(save(tmp_path / name), name) for name in "ab")
    assert one.signature == other.signature


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("MLmodel", None, "m holds no model: there is no MLmodel in it"),
        ("MLmodel", "flavors: {sklearn: {}}\n", "has no python_function flavour"),
        ("MLmodel", "{", "the MLmodel of m cannot be read: "),
        ("MLmodel", "just text", "the MLmodel of m cannot be read: "),
        ("MLmodel", b"run_id: \xff", "the MLmodel of m cannot be read: "),
        ("requirements.txt", None, "the model has no requirements.txt"),
    ],
)
def test_broken_model_is_one_line(
    file: str, text: str | bytes | None, said: str, tmp_path: Path
) -> None:
    folder = save(tmp_path / "m")
    if text is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=said) as caught:
        description.read(folder, "m")
    assert "\n" not in str(caught.value)


def log_with(python: str, folder: Path) -> None:
    """Let a model say that this Python logged it."""
    text = (folder / "MLmodel").read_text(encoding="utf-8")
    changed = [
        f"    python_version: {python}" if "python_version" in line else line
        for line in text.splitlines()
    ]
    (folder / "MLmodel").write_text("\n".join(changed), encoding="utf-8")


def test_python_without_a_base_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    for python, fits in (("3.13.5", True), ("3.11.9", False), ("3.1", False)):
        log_with(python, folder)
        model = description.read(folder, "m")
        if fits:
            locking.require_python(model)
        else:
            with pytest.raises(UserError, match=f"logged with Python {python}.*for Python 3.13"):
                locking.require_python(model)


@pytest.mark.parametrize("held", ["six.py", "mlflow/skinny.py"])
def test_nothing_has_to_be_there_to_be_pruned(held: str, tmp_path: Path) -> None:
    """Neither all of MLflow nor any version of it."""
    (tmp_path / held).parent.mkdir(exist_ok=True)
    (tmp_path / held).touch()
    done = subprocess.run([PRUNE, tmp_path, PRUNED], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_library_that_older_arrows_link_to_is_not_pruned(tmp_path: Path) -> None:
    """Those until 18 hold it once, and without a number."""
    (tmp_path / "pyarrow").mkdir()
    (tmp_path / "pyarrow" / "libarrow_python.so").touch()
    subprocess.run([PRUNE, tmp_path, PRUNED], check=False)
    assert (tmp_path / "pyarrow" / "libarrow_python.so").is_file()


def test_lists_are_one_run_s_until_its_build_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What follows the lists, the build itself, needs an engine."""
    held = FileLock(tmp_path / "lists" / ".team_wine.lock", timeout=0)
    built: list[build.Order] = []

    def make(order: build.Order) -> list[object]:
        built.append(order)
        with pytest.raises(Timeout):
            held.acquire()
        return []

    monkeypatch.setattr(image, "LOCKS", "lists")
    monkeypatch.setattr(image, "current", lambda: Project(tmp_path, None, tmp_path))
    monkeypatch.setattr(image, "find", lambda _: Builder("default", "docker", AMD))
    monkeypatch.setattr(locking, "lock", lambda *_, **__: False)
    monkeypatch.setattr(build, "make", make)
    folder = save(tmp_path / "m")
    log_with("3.13.5", folder)
    image.run(model_uri=str(folder), tag="team/wine:1", platform="amd64")
    assert [order.variables["MODEL_LISTS"] for order in built] == [f"{tmp_path}/lists/team_wine"]
    with held:
        assert held.is_locked
