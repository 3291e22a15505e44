"""The one kind of error that is meant for the person at the keyboard."""

import re

_USER = re.compile(r"//(?:[^/\s]*|(?![^/\s@]*:\d+/)[^/\s:@]*:[^\s@]*)@")
"""User and password in an address: a `/` may stand in a password, though none should."""


class UserError(Exception):
    """A fault that the user can mend: one line that says what is wrong, where, and how to mend it.

    The tasks and the pytest plugin print it as it is, without a traceback, and exit non-zero.
    """


def reason(error: BaseException) -> str:
    """What an error says, on one line; its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def without_password(text: str) -> str:
    """The same address, or text with addresses, for somebody else's eyes."""
    return _USER.sub("//", text)
