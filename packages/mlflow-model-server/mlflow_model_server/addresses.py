"""Addresses at which the server listens, and is asked for its health."""

from __future__ import annotations

import ipaddress

from mlflow_entrypoint.errors import EntrypointError

HOST = "MLFLOW_MODELS_HOST"
EVERYWHERE = ""
"""All addresses, of IPv4 and of IPv6, as far as the machine has them."""
IPV4, IPV6 = "0.0.0.0", "::"  # noqa: S104 - loopback inside a container reaches nobody


def read(text: str) -> str:
    """The address that a variable holds; IPv6 with or without brackets.

    Raises:
        EntrypointError: it is none.
    """
    host = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if host == EVERYWHERE:
        return host
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        raise EntrypointError(
            f"{HOST} is '{text}': it takes an IP address, such as {IPV4} for IPv4 alone or"
            f" {IPV6} for IPv6 alone"
        ) from None


def asked(host: str) -> tuple[str, ...]:
    """The addresses one of which a server answers at that listens on `host`."""
    everywhere = {EVERYWHERE: ("127.0.0.1", "::1"), IPV4: ("127.0.0.1",), IPV6: ("::1",)}
    return everywhere.get(host, (host,))
