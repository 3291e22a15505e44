"""Releases to a real registry, and every tampering that a consumer has to see."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from registry import LocalRegistry, log_in, running
from test_release import AMD64, ARM64, trial

from seatrial.errors import UserError
from seatrial.registry.attaching import Attachment, attach
from seatrial.registry.client import INDEX, MANIFEST, Repository, manifest_of
from seatrial.registry.copying import copy
from seatrial.registry.reference import Reference
from seatrial.release import promotion, record, verification

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from seatrial.registry.client import Manifest

ATTESTATION = {"os": "unknown", "architecture": "unknown"}


@dataclass
class Release:
    """An image in the staging repository, with its record."""

    registry: LocalRegistry
    folder: Path
    root: Manifest
    platforms: dict[str, str]

    @property
    def staging(self) -> Reference:
        """Where the build has put it."""
        return Reference(self.registry.host, "harbour/staging/mlflow", digest=self.root.digest)

    @property
    def target(self) -> Reference:
        """Where it is released."""
        return Reference(self.registry.host, "harbour/mlflow")

    def write_record(self, *, began: datetime | None = None, **changes: Any) -> Path:
        """Write a record of it that qualifies, but for the changes."""
        path = self.folder / "record.json"
        began = began or datetime.now(UTC)
        trials = []
        for platform in self.platforms:
            made = trial(platform=platform, began=began)
            image = made.images[0].model_copy(
                update={"reference": str(self.staging), "digest": self.root.digest}
            )
            trials.append(made.model_copy(update={"images": (image,)}))
        found = record.of(trials, self.platforms, qualifies=changes.get("qualifies", True))
        path.write_text(found.as_text())
        return path

    def release(self, *tags: str, path: Path | None = None, **changes: Any) -> None:
        """Promote it, unsigned unless a key is given."""
        given = {"to": self.target.name, "key": "", "unsigned": True, "dry_run": False, **changes}
        promotion.release(
            record=path or self.write_record(), named=tags, policy=self._policy(), **given
        )

    def verify(self, what: str = "", **changes: Any) -> None:
        """Check it as a consumer."""
        reference = f"{self.target.name}{what or f'@{self.root.digest}'}"
        given = {"key": "", "unsigned": True, **changes}
        verification.verify(reference=reference, policy=self._policy(), **given)

    def tags(self) -> dict[str, str]:
        """What the released tags are."""
        with closing(Repository(self.target)) as repository:
            names = ("1.2.3", "latest", "main")
            found = {name: repository.manifest(name) for name in names}
        return {name: manifest.digest for name, manifest in found.items() if manifest}

    def _policy(self) -> Path:
        path = self.folder / "qualification.toml"
        listed = ", ".join(f'"{platform}"' for platform in self.platforms)
        path.write_text(f"platforms = [{listed}]\nmax_age_days = 7\n")
        return path


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalRegistry]:
    """A registry of this test alone."""
    folder = tmp_path / "registry"
    folder.mkdir()
    with running(folder, monkeypatch) as found:
        yield found


@pytest.fixture
def built(registry: LocalRegistry, tmp_path: Path) -> Release:
    """An index of two platforms with provenance in the staging repository."""
    target = Reference(registry.host, "harbour/staging/mlflow")
    with closing(Repository(target, push=True)) as repository:
        children, held = [], {}
        for platform in (AMD64, ARM64):
            system, architecture = platform.split("/")
            child = _push_image(repository, architecture)
            held[platform] = child.digest
            named = {"os": system, "architecture": architecture}
            children.append({**child.descriptor, "platform": named})
        for platform in (AMD64, ARM64):
            child = _push_image(repository, f"provenance of {platform}")
            about = {"vnd.docker.reference.digest": held[platform]}
            children.append({**child.descriptor, "platform": ATTESTATION, "annotations": about})
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": children}
        root = manifest_of(json.dumps(document).encode(), INDEX)
        repository.push_manifest(root)
    return Release(registry, tmp_path, root, held)


def _push_image(repository: Repository, name: str) -> Manifest:
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        entry = tarfile.TarInfo(f"usr/share/{name.replace('/', '-')}")
        archive.addfile(entry, io.BytesIO())
    config = {
        "os": "linux",
        "architecture": name if name in ("amd64", "arm64") else "amd64",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [manifest_of(layer.getvalue(), "").digest]},
    }
    parts = []
    for kind, content in (("config", json.dumps(config).encode()), ("layer", layer.getvalue())):
        blob = manifest_of(
            content, f"application/vnd.oci.image.{kind}.v1{'+json' if kind == 'config' else '.tar'}"
        )
        repository.push_blob(blob.digest, len(content), io.BytesIO(content))
        parts.append(blob.descriptor)
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": parts[0], "layers": parts[1:]}
    manifest = manifest_of(json.dumps(document).encode(), MANIFEST)
    repository.push_manifest(manifest)
    return manifest


def test_release_gives_the_very_digest_its_tags(
    built: Release, capsys: pytest.CaptureFixture[str]
) -> None:
    built.release("1.2.3", "latest", "main")
    assert built.tags() == dict.fromkeys(("1.2.3", "latest", "main"), built.root.digest)
    built.verify(":1.2.3")
    capsys.readouterr()
    built.release("1.2.3", "latest", "main")
    assert capsys.readouterr().out.count("stays") == 3


def test_dry_run_changes_nothing(built: Release, capsys: pytest.CaptureFixture[str]) -> None:
    built.release("1.2.3", dry_run=True)
    assert built.tags() == {}
    assert "not there" in capsys.readouterr().out
    with pytest.raises(UserError, match="there is no such image"):
        built.verify()


def test_version_never_moves(built: Release) -> None:
    with closing(Repository(built.target, push=True)) as repository:
        other = _push_image(repository, "another")
        repository.push_manifest(other, "1.2.3")
    with pytest.raises(UserError, match=r":1\.2\.3 is sha256:\w+: a version never moves"):
        built.release("latest", "1.2.3")
    assert built.tags() == {"1.2.3": other.digest}


def test_name_that_is_no_version_moves(built: Release) -> None:
    with closing(Repository(built.target, push=True)) as repository:
        repository.push_manifest(_push_image(repository, "another"), "latest")
    built.release("latest")
    assert built.tags() == {"latest": built.root.digest}


OLD = timedelta(days=8)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"qualifies": False}, "the record says FAILED"),
        ({"began": datetime.now(UTC) - OLD}, "a trial is 8 days old: at most 7 are allowed"),
    ],
)
def test_record_that_allows_nothing(built: Release, changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        built.release("latest", path=built.write_record(**changes))
    assert built.tags() == {}


def test_index_must_hold_what_was_tried(built: Release) -> None:
    built.platforms[ARM64] = "sha256:" + "0" * 64
    with pytest.raises(UserError, match=r"linux/arm64 is sha256:\w+$"):
        built.release("latest")
    assert built.tags() == {}


def test_missing_platform_is_seen_by_a_consumer(built: Release) -> None:
    built.release("latest")
    built.platforms["linux/riscv64"] = "sha256:" + "0" * 64
    with pytest.raises(UserError, match=r"linux/riscv64: not tried|missing in the index"):
        built.verify(":latest")


def test_push_that_dies_is_finished_by_the_next(
    built: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    push = Repository.push_blob
    sent: list[str] = []

    def dying(self: Repository, digest: str, *words: Any) -> None:
        if len(sent) == 3:
            built.registry.process.kill()
            built.registry.process.wait()
        sent.append(digest)
        push(self, digest, *words)

    with monkeypatch.context() as patch:
        patch.setattr(Repository, "push_blob", dying)
        with pytest.raises(UserError, match="does not answer, or not to the end"):
            built.release("latest")
    with built.registry.again():
        assert built.tags() == {}
        built.release("latest")
        built.verify(":latest")


@pytest.mark.parametrize("fault", ["down", "password"])
def test_registry_that_takes_nothing(
    built: Release, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    if fault == "down":
        built.registry.process.kill()
        built.registry.process.wait()
    else:
        log_in(built.registry.folder, built.registry.host, monkeypatch, "wrong")
    with pytest.raises(UserError, match=r"does not answer|refuses this user: run `docker login"):
        built.release("latest")


def test_missing_syft_is_one_line(built: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seatrial.release.bills.sysconfig.get_path", lambda _: str(built.folder))
    with pytest.raises(UserError, match="syft is missing"):
        built.release("latest")
    assert built.tags() == {}


def _edited(text: str) -> str:
    return text.replace("test_one[made-up-linux/amd64]", "test_two[made-up-linux/amd64]")


def _of_the_future(text: str) -> str:
    return text.replace('"schema_version": 1', '"schema_version": 2', 1)


def _of_another(text: str) -> str:
    return text


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (_edited, "it was edited"),
        (_of_the_future, "its version is 2, and this Seatrial reads 1"),
        (_of_another, "the record is of another digest"),
    ],
)
def test_record_that_was_tampered_with_is_seen(
    built: Release, change: Callable[[str], str], fault: str
) -> None:
    path = built.write_record()
    if change is _of_another:
        whole = built.root
        built.root = manifest_of(b"{}", INDEX)
        path = built.write_record()
        built.platforms, built.root = {}, whole
    with closing(Repository(built.target, push=True)) as repository:
        copy(Repository(built.staging), built.root.digest, repository)
        document = Attachment(promotion.RECORD_TYPE, change(path.read_text()).encode())
        attach(repository, built.root, document)
    built.platforms = built.platforms or {AMD64: ""}
    with pytest.raises(UserError, match=fault):
        built.verify()


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private key; the public one lies beside it."""
    return _new_key(tmp_path / "ours", monkeypatch)


def _new_key(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if not (cosign := shutil.which("cosign")):
        pytest.skip("no cosign on this machine")
    folder.mkdir()
    monkeypatch.setenv("COSIGN_PASSWORD", "anchor")
    subprocess.run([cosign, "generate-key-pair"], cwd=folder, check=True, capture_output=True)
    return folder / "cosign.key"


def test_signature_by_this_key(built: Release, key: Path) -> None:
    built.release("1.2.3", key=str(key), unsigned=False)
    built.verify(":1.2.3", key=str(key.with_suffix(".pub")), unsigned=False)
    built.release("1.2.3", key=str(key), unsigned=False)
    built.verify(":1.2.3", key=str(key.with_suffix(".pub")), unsigned=False)


@pytest.mark.parametrize(("result", "code"), [("PASSED", 0), ("FAILED", 1)])
def test_cosign_alone_holds_the_attestation_to_a_policy(
    built: Release, key: Path, tmp_path: Path, result: str, code: int
) -> None:
    built.release("1.2.3", key=str(key), unsigned=False)
    rule = tmp_path / "passed.cue"
    rule.write_text(f'predicate: result: "{result}"\n')
    command = ["cosign", "verify-attestation", "--key", str(key.with_suffix(".pub"))]
    command += ["--insecure-ignore-tlog=true", "--policy", str(rule), "--type"]
    command += ["https://in-toto.io/attestation/test-result/v0.1", f"{built.target.name}:1.2.3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr


def test_signature_by_another(
    built: Release, key: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    built.release("1.2.3", key=str(key), unsigned=False)
    other = _new_key(tmp_path / "theirs", monkeypatch).with_suffix(".pub")
    with pytest.raises(UserError, match="2 of 8 checks failed"):
        built.verify(":1.2.3", key=str(other), unsigned=False)


def test_signature_by_nobody(built: Release, key: Path) -> None:
    built.release("1.2.3")
    with pytest.raises(UserError, match="2 of 8 checks failed"):
        built.verify(":1.2.3", key=str(key.with_suffix(".pub")), unsigned=False)


def test_another_record_than_the_signed_one(built: Release, key: Path) -> None:
    built.release("1.2.3", key=str(key), unsigned=False)
    later = built.write_record(began=datetime.now(UTC) + timedelta(minutes=1))
    with closing(Repository(built.target, push=True)) as repository:
        attach(repository, built.root, Attachment(promotion.RECORD_TYPE, later.read_bytes()))
    with pytest.raises(UserError, match="not what this key has attested"):
        built.verify(":1.2.3", key=str(key.with_suffix(".pub")), unsigned=False)
