"""References to images: `HOST/REPOSITORY:TAG` and `HOST/REPOSITORY@DIGEST`."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Self

from docker.auth import resolve_repository_name
from docker.errors import InvalidRepository

from seatrial.errors import UserError, printable

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
"""Source: the OCI distribution specification, "Pulling manifests"."""
_HOST = re.compile(
    r"([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(:\d{1,5})?", re.ASCII
)


@dataclass(frozen=True)
class Reference:
    """A repository of a registry, and what is meant in it."""

    host: str
    repository: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a reference.

        Raises:
            UserError: it is none.
        """
        name, at, digest = text.partition("@")
        before, slash, last = name.rpartition("/")
        last, colon, tag = last.partition(":")
        try:
            host, repository = resolve_repository_name(f"{before}{slash}{last}")
        except InvalidRepository as error:
            raise UserError(f"{printable(text)}: no image reference: {error}") from None
        wrong = (
            not _HOST.fullmatch(host)
            or not _REPOSITORY.fullmatch(repository)
            or (at and not DIGEST.fullmatch(digest))
            or (colon and not TAG.fullmatch(tag))
        )
        if wrong:
            raise UserError(
                f"{printable(text)}: no image reference: write HOST/NAME:TAG or"
                " HOST/NAME@sha256: and 64 digits"
            )
        if host == "docker.io" and "/" not in repository:
            repository = f"library/{repository}"
        return cls(host, repository, tag, digest)

    def at(self, digest: str) -> Self:
        """The same repository, and a digest in it."""
        return replace(self, tag="", digest=digest)

    def tagged(self, tag: str) -> Self:
        """The same repository, and a tag in it."""
        return replace(self, tag=tag, digest="")

    @property
    def name(self) -> str:
        """The repository with its host."""
        return f"{self.host}/{self.repository}"

    def __str__(self) -> str:
        return (
            self.name + (f":{self.tag}" if self.tag else "") + (self.digest and f"@{self.digest}")
        )
