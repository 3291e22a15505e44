"""Errors as MLflow words them, without what the client sent.

MLflow's messages quote the request, some of them all of it, and come with a stack trace. A client
has its request already; whoever else sees the answer, or a log of it, isn't meant to. What MLflow
and the model's signature say is left in: without it nobody could mend the request.
"""

from __future__ import annotations

import json
import re

from mlflow_model_server.frames import Answer

LONGEST = 500
"""Characters of an error's message."""
_LOOKED_AT = 4 * LONGEST
"""Characters of a message that are compared with the request: each word is looked for in it."""
_KEPT = ("error_code", "message", "sqlstate", "error_class")
_WRAPPED = re.compile(r"^Failed to predict data '.*'\. \nError: ", re.DOTALL)
# A regular expression that may begin at many places looks through all the rest at each of them.
_SCHEMA = ("Failed to enforce schema of data '", "' with schema '", "'. Error: ")
_ENFORCED = re.compile(r"Failed to enforce schema of (?:data )?['`]")
_ENFORCED_WITH = ("' with ", "` with ")
_INPUT = "Input: \n"
_CAUSE = re.compile(r"Error: '(?P<repr>(?P<type>[A-Za-z_]\w*)\((?P<said>.*)\)|.*)'", re.DOTALL)
"""Another library's exception inside a message of MLflow's: it quotes whatever it likes."""
_QUOTED = re.compile(r"(?<!\w)(?P<mark>[`'\"])(?P<text>.*?)(?:(?P=mark)(?!\w)|\Z)", re.DOTALL)
"""What isn't closed, for the message was cut, is quoted all the same."""
_WORD = re.compile(r"[^\s,;:()\[\]{}<>'\"`]{3,}")
_PLAIN = re.compile(r"[A-Z]?[a-z]+\.?")
_OCCURRENCES = 100
"""Places in a request at which a word is looked at."""
_TYPE = re.compile(r"(<class ')?[A-Za-z_][\w.]*('>)?")
_TYPES = {
    *("str", "int", "float", "bool", "list", "dict", "tuple", "bytes", "object", "NoneType"),
    *("boolean", "integer", "long", "double", "string", "binary", "datetime", "numpy.ndarray"),
    *("instances", "inputs", "dataframe_records", "dataframe_split", "params", "predictions"),
    *("records", "split", "data", "columns", "index", "signature_name", "application/json"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32"),
    *("float64", "datetime64[ns]", "<U0", "mlflow", "1.30.0", "mlflow==1.30.0"),
    *("text/csv", "application/vnd.apache.parquet", "utf-8", "<Buffer>", "column", "input"),
    *("pandas.DataFrame.to_csv()", "pandas.DataFrame.to_parquet()", "mlflow.pyfunc.spark_udf()"),
}
"""Words of MLflow's own, and of its protocol, which tell nothing of a request that has them too."""
_MARKS = "'\""
_LEFT_OUT = "…"
_PLACE = re.compile(r'^  File "(.+?)", line (\d+), in (.+)$', re.MULTILINE)
_ERROR_TYPE = re.compile(r"^[A-Za-z_][\w.]*", re.MULTILINE)


def error(status: int, code: str, message: str) -> Answer:
    """An error of this server's, in the form of MLflow's."""
    body = json.dumps({"error_code": code, "message": message}).encode()
    return Answer(status, [("content-type", "application/json")], body)


def out_of_memory() -> Answer:
    """A request that takes more memory than there is: no client is to try it again.

    Clients, and proxies, repeat what gets 500 or 503.
    """
    return error(507, "RESOURCE_EXHAUSTED", "the prediction takes more memory than there is")


def without_data(answer: Answer, request: bytes, names: set[str], hint: str = "") -> Answer:
    """An error as it may leave the server.

    Args:
        answer: of MLflow's app, or of the model.
        request: the content type and the body that it answers.
        names: what may be named: the model's inputs and parameters, and their types.
        hint: is added to the message: where to find what has been left out.
    """
    if answer.status < 400:
        return answer
    try:
        parsed = json.loads(answer.body)
    except ValueError:
        text = _shorten(clean(answer.body.decode(errors="replace"), request, names))
        return answer._replace(body=text.encode())
    if not isinstance(parsed, dict) or "message" not in parsed:
        # FastAPI's own, such as {"detail": "Not Found"}.
        return answer
    kept = {name: parsed[name] for name in _KEPT if name in parsed}
    kept["message"] = _shorten(clean(str(parsed["message"]), request, names), hint)
    return answer._replace(body=json.dumps(kept).encode())


def clean(message: str, request: bytes, names: set[str]) -> str:
    """A message without what it quotes of the request."""
    text = request.decode(errors="replace")
    message = _WRAPPED.sub("Failed to predict: ", message)
    message = _without_sent(_without_schema(message))
    begin = message.find(_INPUT)
    if begin >= 0:
        message = message[:begin].rstrip()
    message = _CAUSE.sub(lambda match: f"Error: {_cause(match, text)}", message)[:_LOOKED_AT]
    known = names | _TYPES

    def quoted(match: re.Match[str]) -> str:
        inner = match["text"]
        harmless = inner in known or (inner not in text and _TYPE.fullmatch(inner))
        shown = inner if harmless else _of_signature(inner, names)
        return f"{match['mark']}{shown}{match['mark']}"

    def word(match: re.Match[str]) -> str:
        found = match[0]
        harmless = found in known or _PLAIN.fullmatch(found) or found.strip(".") not in text
        return found if harmless else _LEFT_OUT

    return _WORD.sub(word, _QUOTED.sub(quoted, message))


def _of_signature(quoted: str, names: set[str]) -> str:
    """Keep what a text that is left out says of the model's signature, such as `size: double`."""
    named = [name for name in names if " " in name and name in quoted]
    return f"{_LEFT_OUT} {max(named, key=len)} {_LEFT_OUT}" if named else _LEFT_OUT


def _without_schema(message: str) -> str:
    """Leave out data and schema where MLflow says both, data first; the data may hold anything."""
    start, middle, end = _SCHEMA
    began, between = message.find(start), message.rfind(middle)
    ended = message.find(end, between + len(middle))
    if not 0 <= began < between < ended:
        return message
    return f"{message[:began]}Failed to enforce schema: {message[ended + len(end) :]}"


def _without_sent(message: str) -> str:
    """Leave out the data that MLflow says before the type that it should have."""
    found = _ENFORCED.search(message)
    ended = max(message.rfind(end, found.end()) for end in _ENFORCED_WITH) if found else -1
    if not found or ended < 0:
        return message
    return (
        f"{message[: found.start()]}Failed to enforce schema of what was sent{message[ended + 1 :]}"
    )


def _cause(match: re.Match[str], text: str) -> str:
    """Tell of another library's exception: its type, and words not of the request."""
    if match["type"] == "JSONDecodeError":
        return f"JSONDecodeError: {match['said'].strip(_MARKS)}"
    message = (match["said"] if match["type"] else match["repr"])[:_LOOKED_AT]
    if match["type"] == "UnicodeDecodeError" or any(
        _is_sent(word, text) for word in _WORD.findall(message)
    ):
        return match["type"] or "what was sent can't be converted"
    return f"{match['type']}: {message.strip(_MARKS)}" if match["type"] else message


def _is_sent(word: str, text: str) -> bool:
    """Tell whether a word is the request's; a plain one, which is no part of one of its words."""
    if word in _TYPES:
        return False
    start = -1
    for _ in range(_OCCURRENCES):
        start = text.find(word, start + 1)
        end = start + len(word)
        if start < 0:
            return False
        beside = text[max(0, start - 1) : start] + text[end : end + 1]
        if not (_PLAIN.fullmatch(word) and any(map(str.isalpha, beside))):
            return True
    return True


def _shorten(message: str, hint: str = "") -> str:
    room = LONGEST - len(hint)
    cut = message if len(message) <= room else f"{message[: room - 1]}{_LEFT_OUT}"
    return f"{cut}{hint}"


def origin(stack_trace: str) -> str:
    """The type of the exception that a stack trace ends with, and where it came from."""
    places = list(_PLACE.finditer(stack_trace))
    rest = stack_trace[places[-1].end() :] if places else stack_trace
    error_type = _ERROR_TYPE.search(rest)
    named = error_type[0] if error_type else "an exception"
    if not places:
        return named
    path, line, name = places[-1].groups()
    return f"{named} at {path}:{line} in {name}"
