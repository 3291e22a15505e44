"""Signatures and signed attestations of a digest, by cosign."""

from __future__ import annotations

import base64
import binascii
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seatrial import process
from seatrial.errors import UserError, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

PREDICATE_TYPE = "https://in-toto.io/attestation/test-result/v0.1"
# A key says who signed; that an image exists is nothing for the public transparency log to know.
_SIGN = ("--yes", "--tlog-upload=false")
_VERIFY = ("--insecure-ignore-tlog=true", "--output", "json")


def require_cosign() -> str:
    """Find cosign.

    Raises:
        UserError: it is not on this machine.
    """
    if found := shutil.which("cosign"):
        return found
    raise UserError("cosign is not there: install it, or say --unsigned")


def sign(image: str, key: str, predicate: dict[str, Any]) -> None:
    """Sign a digest and attest its trial; what is signed already stays as it is.

    Args:
        image: `HOST/NAME@sha256:DIGEST`.
        key: as cosign takes it: a file, `env://VARIABLE`, or of a key management service. Its
            password is in COSIGN_PASSWORD.
        predicate: of the record.

    Raises:
        UserError: cosign is not there or fails.
    """
    cosign = require_cosign()
    with tempfile.TemporaryDirectory() as folder:
        public = Path(folder) / "cosign.pub"
        _run([cosign, "public-key", "--key", key, "--outfile", str(public)])
        if faults(image, str(public)):
            _run([cosign, "sign", *_SIGN, "--key", key, image])
        if predicate not in attested(image, str(public)):
            statement = Path(folder) / "predicate.json"
            statement.write_text(json.dumps(predicate), encoding="utf-8")
            named = ("--type", PREDICATE_TYPE, "--predicate", str(statement))
            _run([cosign, "attest", *_SIGN, "--key", key, *named, image])


def faults(image: str, public_key: str) -> str:
    """Say why the signature of a digest is not this key's; empty where it is.

    Raises:
        UserError: cosign is not there.
    """
    done = process.run([require_cosign(), "verify", *_VERIFY, "--key", public_key, image])
    return _reason(done.stderr) if done.returncode else ""


def attested(image: str, public_key: str) -> list[dict[str, Any]]:
    """Give the predicates about a digest's trial that this key has signed."""
    words = [require_cosign(), "verify-attestation", *_VERIFY, "--type", PREDICATE_TYPE]
    done = process.run([*words, "--key", public_key, image])
    if done.returncode:
        return []
    return [predicate for line in done.stdout.splitlines() for predicate in _predicates(line)]


def _predicates(line: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(line)
        envelopes = found if isinstance(found, list) else [found]
        statements = [json.loads(base64.b64decode(each["payload"])) for each in envelopes]
        return [each["predicate"] for each in statements if isinstance(each["predicate"], dict)]
    except (ValueError, KeyError, TypeError, binascii.Error):
        return []


def _run(command: Sequence[str]) -> None:
    done = process.run(command, text="")
    if done.returncode:
        raise UserError(f"cosign {command[1]} failed: {_reason(done.stderr)}")


def _reason(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("WARNING")]
    return printable(lines[-1].removeprefix("Error: "))[:300] if lines else "it said nothing"
