"""Which bundle of authorities builds get, and telling a private one among them."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import certifi
import pytest

from seatrial.engine import trust

if TYPE_CHECKING:
    from pathlib import Path

# Made for this test with openssl; its key was thrown away.
PRIVATE = """\
-----BEGIN CERTIFICATE-----
MIIBtTCCAVugAwIBAgIUaGx6MoKKzWO86gb0mT8mI3iY5AgwCgYIKoZIzj0EAwIw
LzEQMA4GA1UECgwHRXhhbXBsZTEbMBkGA1UEAwwSRXhhbXBsZSBQcml2YXRlIENB
MCAXDTI2MTEyMTA2MzU1NloYDzIxMjYxMDI4MDYzNTU2WjAvMRAwDgYDVQQKDAdF
eGFtcGxlMRswGQYDVQQDDBJFeGFtcGxlIFByaXZhdGUgQ0EwWTATBgcqhkjOPQIB
BggqhkjOPQMBBwNCAAResPXxeg6aYbtPpWHK6mzn98lpnOSksEKMqOIDEosHE/53
AeMJLgfpEyRLWgleFFp0rAo33f7EQwuIV4iAUAGLo1MwUTAdBgNVHQ4EFgQU/KOe
ydW+3sAEpYcxY1kkX7mz3rgwHwYDVR0jBBgwFoAU/KOeydW+3sAEpYcxY1kkX7mz
3rgwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiAmYq54HqUv90H6
EoFyZ7wI58bT4W8YSLRsmiOxd11qvAIhAP7aa9g8NfafHjyvS6vY63Vr9/MyQ27o
0tiXkqxZlNHm
-----END CERTIFICATE-----
"""
VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "bundle.pem"
    shutil.copy(certifi.where(), path)
    return path


@pytest.mark.parametrize("name", VARIABLES)
def test_variables_name_the_bundle(
    name: str, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, str(bundle))
    assert trust.bundle() == bundle


def test_a_variable_that_names_nothing_is_passed_over(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle.with_name("gone.pem")))
    monkeypatch.setenv("PIP_CERT", str(bundle))
    assert trust.bundle() == bundle


def test_public_authorities_are_not_private(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    assert trust.private() == ()


def test_a_private_authority_is_named(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with bundle.open("a") as file:
        file.write(PRIVATE)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    assert trust.private() == ("Example Private CA",)


def test_a_bundle_that_holds_no_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "empty.pem"
    path.write_text("nothing\n")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    assert trust.private() == ()
