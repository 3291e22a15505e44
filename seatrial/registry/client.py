"""A repository of a registry, over the HTTP API of the OCI distribution specification.

Everything that is fetched is checked against its digest, within limits. A library was looked for:
oras 0.2 gives manifests as parsed JSON, whose digest can't be checked any more, and sends a
password to whatever address a registry names; skopeo and crane are programs that a machine may not
have.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Any, cast
from urllib.parse import urljoin, urlsplit

import requests
from urllib3.exceptions import HTTPError

from seatrial.errors import UserError, printable
from seatrial.registry import authentication

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from seatrial.registry.reference import Reference

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
MANIFESTS = (
    INDEX,
    MANIFEST,
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
LARGEST_MANIFEST = 4 << 20
"""Bytes. The specification asks registries for at least 4 MiB."""
_DOCKER_HUB_API = "registry-1.docker.io"
_SECONDS = 60
"""Without a sign from the registry."""
_CHUNK = 1 << 20
_MOST_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}


@dataclass(frozen=True)
class Manifest:
    """A manifest or an index, as the registry has it."""

    content: bytes
    media_type: str
    digest: str

    @property
    def document(self) -> dict[str, Any]:
        """Its JSON.

        Raises:
            UserError: it is none.
        """
        try:
            found = json.loads(self.content)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise UserError(f"{self.digest}: no manifest, but something else")
        return found

    @property
    def descriptor(self) -> dict[str, Any]:
        """What names it in another manifest."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.content)}


def manifest_of(content: bytes, media_type: str) -> Manifest:
    """A manifest with the digest that it will have."""
    return Manifest(content, media_type, f"sha256:{hashlib.sha256(content).hexdigest()}")


class Repository:
    """A repository, to read from and to push to."""

    def __init__(self, reference: Reference, *, push: bool = False) -> None:
        """Nothing is asked yet.

        Args:
            reference: its host and its name; a tag or digest is not looked at.
            push: whether the credentials have to allow that.
        """
        self.reference = reference
        host = _DOCKER_HUB_API if reference.host == "docker.io" else reference.host
        local = urlsplit(f"//{host}").hostname in authentication.LOOPBACK
        self._root = f"https://{host}"
        # A registry on the loopback may speak TLS; one without it is what `docker` takes there too.
        self._fallback = f"http://{host}" if local else ""
        self._actions = "pull,push" if push else "pull"
        self._session = requests.Session()

    def close(self) -> None:
        """End its connections."""
        self._session.close()

    def manifest(self, name: str) -> Manifest | None:
        """Fetch a manifest or an index.

        Args:
            name: a tag or a digest.

        Returns:
            None where there is none of that name.

        Raises:
            UserError: the registry does not give it, or gives another one.
        """
        accept = {"Accept": ", ".join(MANIFESTS)}
        with self._ask("GET", f"manifests/{name}", headers=accept) as answer:
            if answer.status_code == HTTPStatus.NOT_FOUND:
                return None
            self._require(answer, HTTPStatus.OK)
            content = answer.raw.read(LARGEST_MANIFEST + 1, decode_content=True)
            media_type = answer.headers.get("Content-Type", "").partition(";")[0]
        if len(content) > LARGEST_MANIFEST:
            raise UserError(f"{self._named(name)}: larger than {LARGEST_MANIFEST >> 20} MiB")
        found = manifest_of(content, media_type)
        if ":" in name and found.digest != name:
            raise UserError(f"{self._named(name)}: the registry gave {found.digest} instead")
        return found

    def has(self, digest: str) -> bool:
        """Tell whether a blob is there."""
        with self._ask("HEAD", f"blobs/{digest}") as answer:
            if answer.status_code == HTTPStatus.NOT_FOUND:
                return False
            self._require(answer, HTTPStatus.OK)
            return True

    def blobs(self, sizes: Mapping[str, int]) -> Iterator[tuple[str, CheckedStream]]:
        """Fetch blobs one after the other, each checked as it is read to its end.

        Args:
            sizes: bytes, by digest.
        """
        for digest, size in sizes.items():
            with self._ask("GET", f"blobs/{digest}") as answer:
                self._require(answer, HTTPStatus.OK)
                content = cast("IO[bytes]", answer.raw)
                yield digest, CheckedStream(content, digest, size, self._named(digest))

    def push_blob(self, digest: str, size: int, content: IO[bytes] | CheckedStream) -> None:
        """Send a blob; the registry takes it only if its digest is right.

        Raises:
            UserError: the registry does not take it, or names another machine to send it to.
        """
        with self._ask("POST", "blobs/uploads/") as answer:
            self._require(answer, HTTPStatus.ACCEPTED)
            place = self._location(answer)
        if urlsplit(place)[:2] != urlsplit(self._root)[:2]:
            raise UserError(f"{self.reference.name}: wants blobs sent to {printable(place)[:100]}")
        joint = "&" if urlsplit(place).query else "?"
        headers = {"Content-Type": "application/octet-stream"}
        body = _Upload(content, size)
        with self._ask(
            "PUT", f"{place}{joint}digest={digest}", headers=headers, body=body
        ) as answer:
            self._require(answer, HTTPStatus.CREATED)

    def push_manifest(self, manifest: Manifest, name: str = "") -> Mapping[str, str]:
        """Send a manifest or an index, under its digest or a tag.

        Returns:
            The headers of the answer.
        """
        headers = {"Content-Type": manifest.media_type}
        place = f"manifests/{name or manifest.digest}"
        with self._ask("PUT", place, headers=headers, body=manifest.content) as answer:
            self._require(answer, HTTPStatus.CREATED)
            return answer.headers

    def referrers(self, digest: str) -> list[dict[str, Any]]:
        """List what is attached to a digest, as descriptors."""
        with self._ask("GET", f"referrers/{digest}", headers={"Accept": INDEX}) as answer:
            asked = answer.status_code == HTTPStatus.OK
            content = answer.raw.read(LARGEST_MANIFEST, decode_content=True) if asked else b""
            if not asked and answer.status_code not in (
                HTTPStatus.NOT_FOUND,
                HTTPStatus.BAD_REQUEST,
            ):
                self._require(answer, HTTPStatus.OK)
        if asked:
            index = manifest_of(content, INDEX)
        else:
            # The specification's way for registries without this API.
            found = self.manifest(fallback_tag(digest))
            if found is None:
                return []
            index = found
        listed = index.document.get("manifests") or []
        return [entry for entry in listed if isinstance(entry, dict)]

    def _named(self, name: str) -> str:
        return f"{self.reference.name}{'@' if ':' in name else ':'}{name}"

    @contextmanager
    def _ask(
        self,
        method: str,
        place: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | _Upload | None = None,
    ) -> Iterator[requests.Response]:
        """Ask once; a challenge is answered first, and redirects of GET are followed."""
        answer = self._send(method, place, headers, body)
        if (
            answer.status_code == HTTPStatus.UNAUTHORIZED
            and "Authorization" not in self._session.headers
        ):
            answer.close()
            challenge = answer.headers.get("WWW-Authenticate", "")
            self._session.headers["Authorization"] = authentication.header(
                challenge, self.reference.host, self.reference.repository, self._actions
            )
            answer = self._send(method, place, headers, body)
        for _ in range(_MOST_REDIRECTS):
            if answer.status_code not in _REDIRECTS or method != "GET":
                break
            answer.close()
            answer = self._follow(answer, headers)
        try:
            yield answer
        # Of a body that is read as it comes, urllib3 itself says that it broke off.
        except (requests.RequestException, HTTPError) as error:
            raise self._silent(error) from error
        finally:
            answer.close()

    def _send(
        self,
        method: str,
        place: str,
        headers: Mapping[str, str] | None,
        body: bytes | _Upload | None,
    ) -> requests.Response:
        def send() -> requests.Response:
            url = (
                place if "://" in place else f"{self._root}/v2/{self.reference.repository}/{place}"
            )
            return self._session.request(
                method,
                url,
                headers=headers,
                data=body,
                timeout=_SECONDS,
                allow_redirects=False,
                stream=True,
            )

        try:
            return send()
        except requests.exceptions.SSLError as error:
            # Before the first answer alone: what was TLS stays TLS.
            plain = "wrong version number" in str(error).lower().replace("_", " ")
            if not self._fallback or not plain:
                raise self._silent(error) from error
            self._root, self._fallback = self._fallback, ""
            return self._send(method, place, headers, body)
        # requests reads an address to go on to, although it is not to go there.
        except (requests.RequestException, ValueError) as error:
            raise self._silent(error) from error

    def _follow(
        self, answer: requests.Response, headers: Mapping[str, str] | None
    ) -> requests.Response:
        """Go where a registry keeps its blobs, without its password."""
        place = self._location(answer)
        if urlsplit(place).scheme != "https" and not (
            authentication.is_loopback(place) and authentication.is_loopback(answer.url)
        ):
            raise UserError(f"{self.reference.name}: leads to {printable(place)[:100]}")
        try:
            return requests.get(
                place, headers=headers, timeout=_SECONDS, allow_redirects=False, stream=True
            )
        except (requests.RequestException, ValueError) as error:
            raise self._silent(error) from error

    def _location(self, answer: requests.Response) -> str:
        location = answer.headers.get("Location", "")
        authentication.parts(location)
        return urljoin(answer.url, location)

    def _silent(self, error: Exception) -> UserError:
        return UserError(
            f"{self.reference.host} does not answer, or not to the end:"
            f" {printable(type(error).__name__)}"
        )

    def _require(self, answer: requests.Response, wanted: HTTPStatus) -> None:
        if answer.status_code == wanted:
            return
        name = self.reference.name
        if answer.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            host = self.reference.host
            raise UserError(f"{name}: the registry refuses this user: run `docker login {host}`")
        said = printable(answer.raw.read(500, decode_content=True).decode(errors="replace"))
        raise UserError(f"{name}: the registry says {answer.status_code}: {said or 'nothing more'}")


class CheckedStream:
    """A blob that is checked as it is read: its end comes only if size and digest are right."""

    def __init__(self, content: IO[bytes], digest: str, size: int, name: str) -> None:
        """Nothing is read yet."""
        self._content, self._digest, self._left, self._name = content, digest, size, name
        self._hash = hashlib.sha256()

    def read(self, size: int = _CHUNK) -> bytes:
        """Read up to `size` bytes; none at the end.

        Raises:
            UserError: it is longer, shorter or another one than its digest says.
        """
        piece = self._content.read(size)
        self._hash.update(piece)
        self._left -= len(piece)
        ended = not piece and size != 0
        wrong = self._left < 0 or (ended and self._left > 0)
        if wrong or (ended and f"sha256:{self._hash.hexdigest()}" != self._digest):
            raise UserError(f"{self._name}: what came is not what its digest says")
        return piece


def fallback_tag(digest: str) -> str:
    """Name the tag that lists what is attached to a digest, without the API for it."""
    return digest.replace(":", "-")


class _Upload:
    """A body of a known length, which requests sends as it is read and not in chunks."""

    def __init__(self, content: IO[bytes] | CheckedStream, size: int) -> None:
        self._content, self._size = content, size

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        while piece := self.read(_CHUNK):
            yield piece

    def read(self, size: int) -> bytes:
        """Read the next piece."""
        return self._content.read(size)
