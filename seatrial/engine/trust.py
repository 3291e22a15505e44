"""Certificate authorities that this machine trusts, and which of them are private."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from certifi import where as public_bundle

_VARIABLES = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "UV_SYSTEM_CERTS_FILE",
    "NODE_EXTRA_CA_CERTS",
    "AWS_CA_BUNDLE",
)
_SYSTEM_BUNDLES = (
    Path("/etc/ssl/certs/ca-certificates.crt"),  # Debian, Ubuntu, Alpine, Arch
    Path("/etc/pki/tls/certs/ca-bundle.crt"),  # Fedora, Red Hat
    Path("/etc/ssl/ca-bundle.pem"),  # openSUSE
    Path("/etc/ssl/cert.pem"),  # macOS
)
_DISTRIBUTED = Path("/usr/share/ca-certificates")


def bundle() -> Path | None:
    """Find the file of authorities that programs on this machine are told to trust.

    Builds get it as a secret: behind an intercepting proxy a container trusts nobody without it.

    Returns:
        What the usual variables name, else the system's own file, else None.
    """
    named = [Path(value) for name in _VARIABLES if (value := os.environ.get(name))]
    default = ssl.get_default_verify_paths().cafile
    system = [Path(default)] if default else []
    return next((path for path in (*named, *system, *_SYSTEM_BUNDLES) if path.is_file()), None)


def private() -> tuple[str, ...]:
    """Name the authorities in the bundle that neither Mozilla nor the distribution put there.

    Returns:
        Their common names, empty where every authority is a public one.
    """
    path = bundle()
    if path is None:
        return ()
    public = _fingerprints(Path(public_bundle()))
    for certificate in _DISTRIBUTED.rglob("*.crt"):
        public |= _fingerprints(certificate)
    return tuple(sorted(name for key, name in _authorities(path).items() if key not in public))


def _fingerprints(path: Path) -> set[bytes]:
    return set(_authorities(path))


def _authorities(path: Path) -> dict[bytes, str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError:
        return {}
    encoded = context.get_ca_certs(binary_form=True)
    return {
        key: _name(entry.get("subject", ()))
        for key, entry in zip(encoded, context.get_ca_certs(), strict=True)
    }


def _name(subject: object) -> str:
    """Read the common name, or else the organisation, from a subject of `get_ca_certs`."""
    parts = {pair[0]: pair[1] for group in subject for pair in group}  # type: ignore[attr-defined]
    return parts.get("commonName") or parts.get("organizationName") or "unnamed"
