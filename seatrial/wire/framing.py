"""Cases of framing: what says where a request ends, written correctly and in every other way.

The families are those of published collections: the test suites of parsers (llhttp, h11), the list
of disagreements that the HTTP Garden has found, and the permutations that scanners for request
smuggling try. They are generated, so that each spelling meets each kind of body.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from seatrial.wire.cases import Expected, WireCase, chunked, length, request

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from seatrial.wire.cases import WireTarget

ANSWERED, LAST, SAFE, CLOSED, REFUSED = (
    Expected.ANSWERED,
    Expected.LAST,
    Expected.SAFE,
    Expected.CLOSED,
    Expected.REFUSED,
)
CHUNKED = "Transfer-Encoding: chunked"
_OK = 200
_BEYOND_64_BITS = 1 << 64
_END = b"0\r\n\r\n"


def cases(target: WireTarget) -> list[WireCase]:
    """Every case that is no offer of another protocol, of all families."""
    families = (
        _lengths,
        _repeated_lengths,
        _length_names,
        _codings,
        _coding_names,
        _old_versions,
        _chunk_sizes,
        _chunk_ends,
        _trailers,
        _start_lines,
        _methods,
        _hosts,
        _correct_lengths,
        _correct_chunks,
        _correct_heads,
        _pipelines,
        _segments,
    )
    return [case for family in families for case in family(target)]


def upgrades(target: WireTarget) -> Iterator[WireCase]:
    """Requests that offer another protocol: all of them are correct HTTP/1.1."""
    offers = ("h2c", "websocket", "h2c, websocket", "HTTP/2.0", "TLS/1.0", "seatrial/1")
    for offer in offers:
        for connection in ("Upgrade", "Upgrade, HTTP2-Settings", "keep-alive, Upgrade", None):
            fields = [f"Upgrade: {offer}", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"]
            fields += [f"Connection: {connection}"] if connection else []
            if "websocket" in offer:
                fields += [
                    "Sec-WebSocket-Version: 13",
                    "Sec-WebSocket-Key: c2VhdHJpYWwtc2VhdHJpYQ==",
                ]
            get = request(f"GET {target.health} HTTP/1.1", target.host, *fields)
            bodies: dict[str, tuple[tuple[str, bytes], int | None]] = {
                "payload": ((length(target.payload), target.payload), _OK),
                "hidden request": ((length(target.hidden), target.hidden), None),
                "hidden request in a chunk": ((CHUNKED, chunked(target.hidden)), None),
            }
            label = f"{offer}, Connection: {connection}"
            yield WireCase("upgrade", f"{label}, no body", ANSWERED, (get,), (_OK,))
            for name, ((field, body), status) in bodies.items():
                head = target.post(*fields, field)
                yield WireCase("upgrade", f"{label}, {name}", ANSWERED, (head + body,), (status,))
                parts, name = (head, body), f"{label}, {name}, by itself"
                yield WireCase("upgrade", name, ANSWERED, parts, (status,))


def _sized(target: WireTarget, body: bytes, *fields: str | bytes) -> bytes:
    """A correct POST with a length."""
    return target.post(*fields, length(body), body=body)


def _cases(
    family: str, expected: Expected, sent: Iterable[tuple[object, bytes]]
) -> Iterator[WireCase]:
    for name, content in sent:
        yield WireCase(family, str(name), expected, (content,))


def _lengths(target: WireTarget) -> Iterator[WireCase]:
    """Content-Length whose value is no number, or a number that is too large."""
    body, n = target.hidden, len(target.hidden)
    no_numbers = [
        f"+{n}", f"-{n}", f"0x{n:x}", f"{n}.0", f"{n}e0", f"{n};", f"{n} {n}", f"'{n}'", f'"{n}"',
        "", "   ", f"{n}_", f"{str(n)[0]}_{str(n)[1:]}", f"{n}\x0b", f"\x0b{n}", f"\x0c{n}",
        f"{n}\xa0", f"\x85{n}", f"{n}a", f"{n}/2", f"({n})", f"{n}\x1f", "chunked", "-1", "NaN",
        f"{n}\x7f",
    ]  # fmt: skip
    digits = {"Arabic": 0x660, "fullwidth": 0xFF10, "mathematical": 0x1D7CE}
    others = {
        f"{script} digits": "".join(chr(zero + int(digit)) for digit in str(n)).encode()
        for script, zero in digits.items()
    }
    spelled: dict[str, str | bytes] = {repr(value): value for value in no_numbers}
    for name, value in {**spelled, **others}.items():
        field = b"Content-Length: " + (value.encode("latin-1") if isinstance(value, str) else value)
        yield WireCase("length", name, REFUSED, (target.post(field, body=body),))
    large = {
        "2**64 more": n + _BEYOND_64_BITS,
        "2**32 more": n + (1 << 32),
        "2**63": 1 << 63,
        "10**100 more": n + 10**100,
    }
    lenient: dict[str, object] = {
        **large,
        "a thousand zeros before": f"{n:01000}",
        "an empty element after": f"{n},",
        "an empty element before": f",{n}",
        "NUL after": f"{n}\x00",
        "NUL before": f"\x00{n}",
        "tabs around": f"\t{n}\t",  # correct, and nginx refuses it
    }
    yield from _cases(
        "length",
        SAFE,
        ((name, target.post(f"Content-Length: {v}", body=body)) for name, v in lenient.items()),
    )


def _repeated_lengths(target: WireTarget) -> Iterator[WireCase]:
    body, n = target.hidden, len(target.hidden)
    pairs = [(0, n), (n, 0), (n, n + 1), (n, n - 1), (n, 1), (1, n)]
    for first, second in pairs:
        lines = (f"Content-Length: {first}", f"Content-Length: {second}")
        forms = {
            "two lines": lines,
            "two lines, small letters": (lines[0], lines[1].lower()),
            "two lines, others between": (lines[0], "X-Between: 1", lines[1]),
            "list": (f"Content-Length: {first}, {second}",),
            "list without blanks": (f"Content-Length: {first},{second}",),
        }
        for name, fields in forms.items():
            sent = target.post(*fields, body=body)
            yield WireCase("two lengths", f"{name}: {first} and {second}", REFUSED, (sent,))
    same = {
        "two lines": (length(body), length(body)),
        "list": (f"Content-Length: {n}, {n}",),
        "three lines": (length(body),) * 3,
        "two spellings": (length(body), f"Content-Length: 0{n}"),
    }
    yield from _cases(
        "equal lengths", SAFE, ((name, target.post(*f, body=body)) for name, f in same.items())
    )


def _length_names(target: WireTarget) -> Iterator[WireCase]:
    """A Content-Length that only a lenient reader sees, or only a strict one."""
    body, n = target.hidden, len(target.hidden)
    broken = {
        "blank before the colon": f"Content-Length : {n}",
        "tab before the colon": f"Content-Length\t: {n}",
        "vertical tab before the colon": f"Content-Length\x0b: {n}",
        "NUL before the colon": f"Content-Length\x00: {n}",
        "NUL within": f"Content\x00-Length: {n}",
        "no-break space before the colon": f"Content-Length\xa0: {n}",
        "DEL before the colon": f"Content-Length\x7f: {n}",
        "no colon": f"Content-Length {n}",
        "folded, then another number": f"Content-Length: {n}\r\n 0",
        "folded digits": f"Content-Length: {str(n)[0]}\r\n {str(n)[1:]}",
    }
    yield from _cases(
        "name of the length",
        REFUSED,
        ((name, target.post(field, body=body)) for name, field in broken.items()),
    )
    lenient = {
        "folded value": (f"Content-Length:\r\n {n}",),
        "folded by a tab": (f"Content-Length:\r\n\t{n}",),
        "line ended by LF": (f"Content-Length: {n}\nX-After: 1",),
        "another one after CR": (length(body), "X-Before: 1\rContent-Length: 0"),
        "another one in a folded line": (length(body), "X-Before: 1\r\n Content-Length: 0"),
        "another one after NUL": (length(body), "X-Before: 1\x00Content-Length: 0"),
        "a coding in a folded line": (length(body), f"X-Before: 1\r\n\t{CHUNKED}"),
        "value ended by two CR": (f"Content-Length: {n}\r",),
    }
    for name, fields in lenient.items():
        hidden = (_END if "coding" in name else b"") + body
        if hidden != body:
            fields = (length(hidden), *fields[1:])
        yield WireCase("name of the length", name, SAFE, (target.post(*fields, body=hidden),))
    line = f"POST {target.action} HTTP/1.1"
    for blank in (" ", "\t"):
        sent = request(line, f"{blank}Content-Length: 0", target.host, length(body)) + body
        yield WireCase("name of the length", f"{blank!r} before the first", SAFE, (sent,))
        sent = request(line, f"{blank}{CHUNKED}", target.host, length(body)) + body
        yield WireCase("name of the coding", f"{blank!r} before the first", SAFE, (sent,))


_WHOLE = ("chunked", "Chunked", "CHUNKED", " chunked ")
"""The chunked coding, and nothing else."""
_LENIENT = {
    "twice": "chunked, chunked",
    "twice, two lines": f"chunked\r\n{CHUNKED}",
    "identity before": "identity, chunked",
    "gzip before": "gzip, chunked",
    "gzip before, two lines": f"gzip\r\n{CHUNKED}",
    "empty element before": ", chunked",
    "empty element after": "chunked,",
    "empty parameter": "chunked;",
    "parameter": "chunked;q=0.5",
    "NUL after": "chunked\x00",
    "NUL before": "\x00chunked",
    "tab before": "\tchunked",  # correct, and nginx refuses it
    "tab after": "chunked\t",
    "folded": "\r\n chunked",
    "folded by a tab": "\r\n\tchunked",
    "folded after": "chunked\r\n ",
    "line ended by LF": "chunked\nX-After: 1",
    "two CR": "chunked\r",
}  # fmt: skip
"""Codings that end with chunked for a lenient reader, and are an error for a strict one."""
_WRONG = (
    "identity", "gzip", "xchunked", "chunkedx", "chunk", "chunked, identity", "chunked, gzip",
    "chunked\r\nTransfer-Encoding: identity", "chunked\r\nTransfer-Encoding: x", "chunked\x0b",
    "\x0bchunked", "\x0cchunked", "\x1cchunked", "\xa0chunked", "\x85chunked", "chunked\xa0",
    '"chunked"', "'chunked'", "chunked identity", "chunked\tx", "chun\x00ked", "ch\xfcnked",
    "[chunked]", "chunked\\", "c hunked", "chunked=1", "chunked/1.1", "(chunked)", "{chunked}",
)  # fmt: skip
"""Codings that do not end with chunked: section 6.3 wants 400 and the end."""


def _codings(target: WireTarget) -> Iterator[WireCase]:
    """Every value of Transfer-Encoding, alone and beside a Content-Length."""
    spelled = {repr(value): value for value in _WHOLE}
    for name, value in {**spelled, **_LENIENT}.items():
        field = f"Transfer-Encoding: {value}".encode("latin-1")
        yield from _beside_length("coding", name, CLOSED, field, target)
        expected = ANSWERED if value in _WHOLE else SAFE
        body = chunked(target.hidden)
        yield WireCase("coding", f"{name}, alone", expected, (target.post(field, body=body),))
    wrong = {repr(value): value.encode("latin-1") for value in _WRONG}
    wrong["Kelvin sign"] = "chun\N{KELVIN SIGN}ed".encode()
    for name, encoded in wrong.items():
        field = b"Transfer-Encoding: " + encoded
        yield from _beside_length("coding", name, REFUSED, field, target)
        yield WireCase(
            "coding", f"{name}, alone", REFUSED, (target.post(field, body=target.hidden),)
        )
    yield from _beside_length("coding", "empty", CLOSED, "Transfer-Encoding:", target)


def _beside_length(
    family: str, name: str, expected: Expected, field: str | bytes, target: WireTarget
) -> Iterator[WireCase]:
    """A coding and a length, each of which hides a request from the other's reader."""
    inside = _END + target.hidden
    chunks = chunked(target.hidden)
    first = chunks.index(b"\n") + 1
    for order, label in ((slice(None), "coding first"), (slice(None, None, -1), "length first")):
        by_length = (field, length(inside))[order]
        by_coding = (field, f"Content-Length: {first}")[order]
        yield WireCase(family, f"{name}, {label}, hidden from chunks", expected,
                   (target.post(*by_length, body=inside),))  # fmt: skip
        yield WireCase(family, f"{name}, {label}, hidden in a chunk", expected,
                   (target.post(*by_coding, body=chunks),))  # fmt: skip


def _coding_names(target: WireTarget) -> Iterator[WireCase]:
    """A Transfer-Encoding that only some readers see, beside a Content-Length that all see."""
    broken = {
        "blank before the colon": "Transfer-Encoding : chunked",
        "tab before the colon": "Transfer-Encoding\t: chunked",
        "vertical tab before the colon": "Transfer-Encoding\x0b: chunked",
        "NUL before the colon": "Transfer-Encoding\x00: chunked",
        "NUL within": "Transfer\x00-Encoding: chunked",
        "no-break space before the colon": "Transfer-Encoding\xa0: chunked",
        "DEL before the colon": "Transfer-Encoding\x7f: chunked",
        "blank within": "Transfer Encoding: chunked",
        "no colon": "Transfer-Encoding chunked",
    }
    for name, field in broken.items():
        yield from _beside_length("name of the coding", name, REFUSED, field, target)
    inside = _END + target.hidden
    unseen = {
        "underscore": "Transfer_Encoding: chunked",
        "another name that ends so": "X-Transfer-Encoding: chunked",
        "another name that begins so": "Transfer-Encoding-X: chunked",
        "after CR": f"X-Before: 1\r{CHUNKED}",
        "after NUL": f"X-Before: 1\x00{CHUNKED}",
        "in a quoted value": f'X-Before: "\t{CHUNKED}"',
        "folded line": f"X-Before: 1\r\n {CHUNKED}",
        "TE": "TE: chunked",
        "Trailer": "Trailer: Transfer-Encoding",
        "Connection": "Connection: Transfer-Encoding",
        "Content-Encoding": "Content-Encoding: chunked",
    }
    yield from _cases(
        "name of the coding",
        SAFE,
        ((name, target.post(length(inside), field, body=inside)) for name, field in unseen.items()),
    )
    yield from _beside_length(
        "name of the coding", "after LF", CLOSED, f"X-Before: 1\n{CHUNKED}", target
    )


def _old_versions(target: WireTarget) -> Iterator[WireCase]:
    """HTTP/1.0 knows no coding."""
    for fields in ((), ("Connection: keep-alive",)):
        kept = "kept alive" if fields else "plain"
        sent = target.post(*fields, CHUNKED, body=chunked(target.hidden), version="HTTP/1.0")
        yield WireCase("HTTP/1.0", f"coding, {kept}", CLOSED, (sent,))
        for name, body in (("hidden from chunks", _END + target.hidden),):
            both = target.post(*fields, CHUNKED, length(body), body=body, version="HTTP/1.0")
            yield WireCase("HTTP/1.0", f"coding and length, {kept}, {name}", CLOSED, (both,))
    payload = target.payload
    plain = target.post(length(payload), body=payload, version="HTTP/1.0")
    yield WireCase("HTTP/1.0", "plain", LAST, (plain,), (_OK,))
    kept_alive = target.post(
        "Connection: keep-alive", length(payload), body=payload, version="HTTP/1.0"
    )
    yield WireCase("HTTP/1.0", "kept alive", SAFE, (kept_alive,))


def _chunk_sizes(target: WireTarget) -> Iterator[WireCase]:
    # To a reader that takes the size for 0, the hidden request is the next one.
    data = b"\r\n" + target.hidden
    size = f"{len(data):x}"
    wrong = [
        f"0x{size}", f"0X{size}", f"+{size}", f"-{size}", f" {size}", f"\t{size}", f"{size}g", "",
        " ", f"\x00{size}", f"{size}.0", f"{size},{size}", f"'{size}'", f"0_{size}", f"{size}_0",
        f"{size} {size}", f"{size}\x0b", f"{size}\xa0", f"{size[0]} {size[1:]}", "g", "0.0",
        f"{size}:", f"{size}=a", f"\x0c{size}", f"0{size}h", f"${size}", f"{size}\x00", f"{size} a",
    ]  # fmt: skip
    for value in wrong:
        yield _chunk("chunk size", repr(value), REFUSED, value.encode("latin-1"), data, target)
    digits = "".join(chr(0xFF10 + int(digit, 16)) for digit in size if digit.isdigit())
    yield _chunk("chunk size", "fullwidth digits", REFUSED, digits.encode(), data, target)
    lenient = {
        "blank after": f"{size} ",
        "tab after": f"{size}\t",
        "blank before an extension": f"{size} ;a=b",
        "empty extension": f"{size};",
        "two semicolons": f"{size};;a",
        "unbalanced quotes": f'{size};a="b',
        "NUL in an extension": f"{size};a\x00b",
        "2**64 more": f"{len(data) + _BEYOND_64_BITS:x}",
        "2**32 more": f"{len(data) + (1 << 32):x}",
        "2**63": f"{1 << 63:x}",
        "2**64-1": "f" * 16,
        "forty zeros before": "0" * 40 + size,
    }
    for name, value in lenient.items():
        yield _chunk("chunk size", name, SAFE, value.encode("latin-1"), data, target)


def _chunk(
    family: str, name: str, expected: Expected, line: bytes, data: bytes, target: WireTarget
) -> WireCase:
    """A body of one chunk, whose size line is given."""
    body = line + b"\r\n" + data + b"\r\n" + _END
    return WireCase(family, name, expected, (target.post(CHUNKED, body=body),))


def _chunk_ends(target: WireTarget) -> Iterator[WireCase]:
    """Line ends after a chunk's size, or after its data."""
    data, size = target.hidden, b"%x" % len(target.hidden)
    wrong = {
        "nothing after the data": b"%s\r\n%s%s" % (size, data, _END),
        "LF after the data": b"%s\r\n%s\n%s" % (size, data, _END),
        "CR after the data": b"%s\r\n%s\r%s" % (size, data, _END),
        "two bytes after the data": b"%s\r\n%sXX%s" % (size, data, _END),
        "blanks after the data": b"%s\r\n%s  \r\n%s" % (size, data, _END),
        "one byte more": b"%x\r\n%s\r\n%s" % (len(data) - 1, data, _END),
        "empty line before the next size": b"%s\r\n%s\r\n\r\n%s" % (size, data, _END),
        "LF ends an extension": b"%s;a\n%s\r\n%s" % (size, data, _END),
        "LF within an extension": b"%s;a\nb\r\n%s\r\n%s" % (size, data, _END),
        "CR within an extension": b"%s;a\rb\r\n%s\r\n%s" % (size, data, _END),
        "CR ends the size": b"%s\r%s\r\n%s" % (size, data, _END),
        "CR CR ends the size": b"%s\r\r%s\r\n%s" % (size, data, _END),
        "LF CR ends the size": b"%s\n\r%s\r\n%s" % (size, data, _END),
        "hidden request after LF in an extension": b"1;a\n%s\r\nX\r\n%s" % (data, _END),
        "no size at the beginning": b"\r\n" + data + b"\r\n" + _END,
    }
    yield from _cases(
        "chunk end",
        REFUSED,
        ((name, target.post(CHUNKED, body=body)) for name, body in wrong.items()),
    )
    lenient = {
        "LF ends the size": b"%s\n%s\r\n%s" % (size, data, _END),
        "LF ends the last size": b"%s\r\n%s\r\n0\n\r\n" % (size, data),
        "LF ends the body": b"%s\r\n%s\r\n0\r\n\n" % (size, data),
        "LF everywhere": b"%s\n%s\n0\n\n" % (size, data),
    }
    yield from _cases(
        "chunk end", SAFE, ((name, target.post(CHUNKED, body=b)) for name, b in lenient.items())
    )


def _trailers(target: WireTarget) -> Iterator[WireCase]:
    """Fields after the last chunk, which must not frame anything."""
    lenient = {
        "length": length(target.last).encode() + b"\r\n",
        "length, folded": b"X-A: 1\r\n " + length(target.last).encode() + b"\r\n",
        "coding": CHUNKED.encode() + b"\r\n",
        "another host": b"Host: example.com\r\n",
        "blank before the colon": b"X-A : 1\r\n",
        "no colon": b"no field\r\n",
        "LF ends a field": b"X-A: 1\n",
        "CR within a field": b"X-A: 1\rX-B: 2\r\n",
        "NUL within a field": b"X-A: 1\x002\r\n",
        "a request": b"GET %s HTTP/1.1\r\n%s\r\n" % (target.absent.encode(), target.host.encode()),
    }
    yield from _cases(
        "trailer",
        SAFE,
        (
            (name, target.post(CHUNKED, body=chunked(target.payload, trailers=fields)))
            for name, fields in lenient.items()
        ),
    )


def _start_lines(target: WireTarget) -> Iterator[WireCase]:
    """First lines that readers may disagree about; a body hides a request."""
    action, body = target.action, target.hidden
    versions = [
        "HTTP/1.2", "HTTP/1.10", "HTTP/01.1", "HTTP/2.0", "HTTP/2", "HTTP/3.0", "HTTP/0.9",
        "HTTP/1", "HTTP/1.", "http/1.1", "HTTP/ 1.1", "HTTP /1.1", "HTTP/1.1 ", "HTTP/1.1\t",
        "HTTP/1.1x", "HTTP/+1.1", "HTTP/1.1\x0b", "XTTP/1.1", "HTTPS/1.1", "HTTP/1,1",
        "HTTP/\xb9.1", "HTTP/1.1\x00", "HTTP/1.1 HTTP/1.0", "HTTP\\1.1", "HTTP/-1.1",
    ]  # fmt: skip
    lines = [f"POST {action} {version}" for version in versions]
    lines += [
        f"POST  {action} HTTP/1.1", f"POST {action}  HTTP/1.1", f"POST\t{action}\tHTTP/1.1",
        f" POST {action} HTTP/1.1", f"POST\x0b{action}\x0bHTTP/1.1", f"POST\xa0{action} HTTP/1.1",
        f"POST {action}\tHTTP/1.1", f"post {action} HTTP/1.1", f"P\x00ST {action} HTTP/1.1",
        f"POST, {action} HTTP/1.1", f"POST\x7f {action} HTTP/1.1", f"POST/ {action} HTTP/1.1",
        f"{'P' * 300} {action} HTTP/1.1", f"\xefPOST {action} HTTP/1.1",
        f"M-SEARCH {action} HTTP/1.1",
        f"PROPFIND {action} HTTP/1.1", f"QUERY {action} HTTP/1.1", f"P$ST {action} HTTP/1.1",
        f"POST {action}#part HTTP/1.1", f"POST {action} b HTTP/1.1", f"POST {action}\x00 HTTP/1.1",
        f"POST {action}\xff HTTP/1.1", f"POST {action}\\ HTTP/1.1", "POST * HTTP/1.1",
        f"POST /{action} HTTP/1.1", f"POST {action[1:]} HTTP/1.1", "POST  HTTP/1.1",
        f"POST {action}?a=%zz HTTP/1.1", f"POST {action}%00 HTTP/1.1", f"POST {action};a HTTP/1.1",
        f"POST http://{target.address.name}{action} HTTP/1.1", f"POST ftp://other{action} HTTP/1.1",
        f"POST http://other:99999{action} HTTP/1.1", f"POST http://{action} HTTP/1.1",
        "POST example.com:80 HTTP/1.1", f"POST {action}\rHTTP/1.1", f"POST {action} HTTP/1.1\r",
        "CONNECT example.com:80 HTTP/1.1", f"CONNECT {action} HTTP/1.1", f"PRI {action} HTTP/1.1",
        "PRI * HTTP/1.1", f"TRACE {action} HTTP/1.1",
    ]  # fmt: skip
    fields = (target.host, f"Content-Type: {target.content_type}", length(body))
    sent = [(repr(line), request(line, *fields) + body) for line in lines]
    whole = _sized(target, body)
    before = {
        "CRLF": "\r\n",
        "LF": "\n",
        "CR": "\r",
        "three CRLF": "\r\n" * 3,
        "blank": " \r\n",
        "NUL": "\x00",
        "byte order mark": "\xef\xbb\xbf",
        "a field": "X-A: 1\r\n",
    }
    sent += [(f"{name} before", text.encode("latin-1") + whole) for name, text in before.items()]
    sent += [("LF ends every line", whole.replace(b"\r\n", b"\n", 4))]
    for name, content in sent:
        yield WireCase("start line", name, SAFE, (content,), known=False)


def _methods(target: WireTarget) -> Iterator[WireCase]:
    """Bodies where a method gives them no meaning."""
    body = target.hidden
    for method in ("GET", "HEAD", "DELETE", "OPTIONS", "PUT", "PATCH", "TRACE"):
        line = f"{method} {target.health} HTTP/1.1"
        bodies = {
            "length": request(line, target.host, length(body)) + body,
            "chunks": request(line, target.host, CHUNKED) + chunked(body),
        }
        for name, sent in bodies.items():
            yield WireCase(
                "method", f"{method}, {name}", SAFE, (sent,), methods=(method,), known=False
            )


def _hosts(target: WireTarget) -> Iterator[WireCase]:
    """Requests without a Host, or with several, or a strange one; a body hides a request."""
    body, name = target.hidden, target.address.name
    hosts = {
        "none": (),
        "two": (target.host, target.host),
        "two different": (target.host, "Host: example.com"),
        "empty": ("Host:",),
        "list": (f"Host: {name}, {name}",),
        "blank within": (f"Host: {name} {name}",),
        "path": (f"Host: {name}/",),
        "user": (f"Host: a@{name}",),
        "folded": (f"Host:\r\n {name}",),
        "blank before the colon": (f"Host : {name}",),
        "NUL": (f"Host: {name}\x00",),
        "large port": ("Host: localhost:99999",),
    }
    for label, fields in hosts.items():
        sent = request(f"POST {target.action} HTTP/1.1", *fields, length(body)) + body
        yield WireCase("host", label, SAFE, (sent,))


def _correct_lengths(target: WireTarget) -> Iterator[WireCase]:
    payload, n = target.payload, len(target.payload)
    spelled = {
        "plain": length(payload),
        "small letters": f"content-length: {n}",
        "capital letters": f"CONTENT-LENGTH: {n}",
        "no blank": f"Content-Length:{n}",
        "blanks around": f"Content-Length:   {n}   ",
    }
    for name, field in spelled.items():
        sent = target.post(field, body=payload)
        yield WireCase("correct length", name, ANSWERED, (sent,), (_OK,))
    hidden = _sized(target, target.hidden)
    yield WireCase("correct length", "hidden request", ANSWERED, (hidden,))
    yield WireCase("correct length", "no body", ANSWERED, (target.post("Content-Length: 0"),))
    twice = hidden + _sized(target, payload)
    yield WireCase(
        "correct length", "hidden request, then a payload", ANSWERED, (twice,), (None, _OK)
    )


def _correct_chunks(target: WireTarget) -> Iterator[WireCase]:
    payload = target.payload
    size = len(payload)
    half = size // 2
    pieces = (payload[:half], payload[half:])
    bodies = {
        "one chunk": chunked(payload),
        "two chunks": chunked(*pieces),
        "a byte in each": chunked(*(payload[i : i + 1] for i in range(size))),
        "capital digits": b"%X\r\n%s\r\n%s" % (size, payload, _END),
        "small digits": b"%x\r\n%s\r\n%s" % (size, payload, _END),
        "leading zeros": b"000%x\r\n%s\r\n%s" % (size, payload, _END),
        "zeros for the end": b"%x\r\n%s\r\n000\r\n\r\n" % (size, payload),
        "extension": b"%x;a\r\n%s\r\n%s" % (size, payload, _END),
        "extension with a value": b"%x;a=b\r\n%s\r\n%s" % (size, payload, _END),
        "extensions": b"%x;a=b;c;d=e\r\n%s\r\n%s" % (size, payload, _END),
        "quoted extension": b'%x;a="b c"\r\n%s\r\n%s' % (size, payload, _END),
        "extension at the end": b"%x\r\n%s\r\n0;a=b\r\n\r\n" % (size, payload),
        "trailer": chunked(payload, trailers=b"X-Checksum: 1\r\n"),
        "trailers": chunked(payload, trailers=b"X-A: 1\r\nX-B: 2\r\nX-C:\r\n"),
    }
    for name, body in bodies.items():
        sent = target.post(CHUNKED, body=body)
        yield WireCase("correct chunks", name, ANSWERED, (sent,), (target.in_chunks,))
    hidden = target.post(CHUNKED, body=chunked(target.hidden))
    yield WireCase("correct chunks", "hidden request", ANSWERED, (hidden,))
    yield WireCase("correct chunks", "no chunk", ANSWERED, (target.post(CHUNKED, body=_END),))
    twice = hidden + target.post(CHUNKED, body=chunked(payload))
    statuses = (None, target.in_chunks)
    yield WireCase("correct chunks", "hidden request, then a payload", ANSWERED, (twice,), statuses)


def _correct_heads(target: WireTarget) -> Iterator[WireCase]:
    get = f"GET {target.health} HTTP/1.1"
    fields: dict[str, tuple[str, ...]] = {
        "no blank after the colon": (f"Host:{target.address.name}",),
        "blanks around a value": (f"Host:  {target.address.name}  ",),
        "small letters": (target.host.lower(),),
        "empty value": (target.host, "X-Empty:"),
        "bytes above 127": (target.host, "X-Bytes: \xe9\xff\x80"),
        "many fields": (target.host, *(f"X-Field-{number}: {number}" for number in range(60))),
        "long value": (target.host, f"X-Long: {'a' * 4000}"),
        "same field twice": (target.host, "X-Twice: 1", "X-Twice: 2"),
        "cookies": (target.host, "Cookie: a=b; c=d"),
        "TE": (target.host, "TE: trailers", "Connection: TE"),
        "keep-alive": (target.host, "Connection: keep-alive", "Keep-Alive: timeout=5"),
        "all signs of a name": (target.host, "X-!#$%&'*+.^_`|~: 1"),
    }
    for name, head in fields.items():
        yield WireCase("correct head", name, ANSWERED, (request(get, *head),), (_OK,))
    lines = {
        "query": f"GET {target.health}?a=b&c=%20d HTTP/1.1",
        "long query": f"GET {target.health}?{'a' * 2000} HTTP/1.1",
    }
    for name, line in lines.items():
        yield WireCase("correct head", name, ANSWERED, (request(line, target.host),), (_OK,))
    absolute = request(f"GET http://{target.address.name}{target.health} HTTP/1.1", target.host)
    yield WireCase("correct head", "absolute form", ANSWERED, (absolute,))
    closing = request(get, target.host, "Connection: close")
    yield WireCase("correct head", "close", LAST, (closing,), (_OK,))
    closing = request(get, target.host, "connection: CLOSE")
    yield WireCase("correct head", "close, other letters", LAST, (closing,), (_OK,))


def _pipelines(target: WireTarget) -> Iterator[WireCase]:
    get = request(f"GET {target.health} HTTP/1.1", target.host)
    head = request(f"HEAD {target.health} HTTP/1.1", target.host)
    absent = request(f"GET {target.absent} HTTP/1.1", target.host)
    post, chunks = (
        _sized(target, target.payload),
        target.post(CHUNKED, body=chunked(target.payload)),
    )
    for count in (2, 10):
        yield WireCase("pipeline", f"{count} GET", ANSWERED, (get * count,), (_OK,) * count)
    yield WireCase("pipeline", "POST, GET", ANSWERED, (post + get,), (_OK, _OK))
    statuses: tuple[int | None, ...] = (target.in_chunks, _OK)
    yield WireCase("pipeline", "chunks, GET", ANSWERED, (chunks + get,), statuses)
    statuses = (_OK, target.in_chunks, _OK)
    yield WireCase("pipeline", "three POST", ANSWERED, (post + chunks + post,), statuses)
    yield WireCase("pipeline", "HEAD, GET", ANSWERED, (head + get,), (None, _OK), ("HEAD", "GET"))
    statuses = (_OK, 404, _OK, 404)
    sent = (get + absent + post + absent).replace(b"hidden", b"absent")
    yield WireCase("pipeline", "different ones", ANSWERED, (sent,), statuses)


def _segments(target: WireTarget) -> Iterator[WireCase]:
    """The same bytes, cut into segments."""
    post = _sized(target, target.payload)
    chunks = target.post(CHUNKED, body=chunked(target.payload, trailers=b"X-A: 1\r\n"))
    hidden = _sized(target, target.hidden)
    expecting = target.post("Expect: 100-continue", length(target.payload))
    expecting_chunks = target.post("Expect: 100-continue", CHUNKED)
    cut = {
        "head and body": (post[: post.index(b"\r\n\r\n") + 4], target.payload),
        "within a line end": tuple(_cut(post, post.index(b"\n"))),
        "within the last line end": tuple(_cut(post, post.index(b"\r\n\r\n") + 3)),
        "within the length": tuple(_cut(post, post.index(b"Content-Length: ") + 17)),
        "byte by byte, length": tuple(_bytes(post[-160:], before=post[:-160])),
        "byte by byte, chunks": tuple(_bytes(chunks[-160:], before=chunks[:-160])),
        "within a chunk's size": tuple(_cut(chunks, chunks.index(b"\r\n\r\n") + 5)),
        "Expect, then the body": (expecting, target.payload),
        "Expect, then chunks": (expecting_chunks, chunked(target.payload)),
        "Expect, all at once": (expecting + target.payload,),
    }
    for name, parts in cut.items():
        status = target.in_chunks if "chunk" in name else _OK
        yield WireCase("segments", name, ANSWERED, parts, (status,))
    head = hidden[: hidden.index(b"\r\n\r\n") + 4]
    yield WireCase("segments", "hidden request by itself", ANSWERED, (head, target.hidden))
    body = chunked(target.hidden)
    first = body.index(b"\n") + 1
    parts = (target.post(CHUNKED), body[:first], target.hidden, body[first + len(target.hidden) :])
    yield WireCase("segments", "hidden request in a chunk by itself", ANSWERED, parts)
    unknown = target.post("Expect: 200-ok", length(target.hidden), body=target.hidden)
    yield WireCase("segments", "Expect of something else", SAFE, (unknown,))


def _cut(sent: bytes, *places: int) -> Iterator[bytes]:
    for begin, end in zip((0, *places), (*places, len(sent)), strict=True):
        yield sent[begin:end]


def _bytes(sent: bytes, before: bytes) -> Iterator[bytes]:
    if before:
        yield before
    for number in range(len(sent)):
        yield sent[number : number + 1]
