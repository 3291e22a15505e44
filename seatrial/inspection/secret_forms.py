"""The forms of secrets, each as text shows it wherever it stands.

A form begins with a text that is searched for in one pass for all forms; its pattern is tried only
there. The group `secret` is what is judged, and never shown. No repetition is without a bound: a
hostile file would make the search of it quadratic.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from seatrial.inspection import stand_ins

if TYPE_CHECKING:
    from collections.abc import Callable

_START = rb"(?:(?<![A-Za-z0-9_])|(?<=\\[nrt]))"
"""No letter before: but for the one of an escaped line break."""
_END = rb"(?![A-Za-z0-9])"
_GAP = rb"[ \t]{0,8}"
_MANUALS_CLAIMS = re.compile(rb"(?i)1234567890|example|\"some\" ?: ?\"payload|\"foo\" ?: ?\"bar")
_QUOTE = rb"(?:\\?[\"']|&quot;)"


@dataclass(frozen=True, eq=False)
class Form:
    """A form of secrets."""

    name: str
    begins: tuple[bytes, ...]
    """Texts in lower case, one of which begins each match."""
    bounded: re.Pattern[bytes]
    """The pattern in a text, where no letter stands before it."""
    unbounded: re.Pattern[bytes]
    """The pattern in binary content, where any byte may."""
    genuine: Callable[[re.Match[bytes]], bool]
    """True if a match is no stand-in."""
    lookback: int = 0
    """Bytes of the match before the text that it is found by."""
    in_binary: bool = True

    def described(self, match: re.Match[bytes]) -> str:
        """Say what was found: a key's length is not known from its beginning."""
        return self.name if self.genuine is _is_key else described(self.name, match["secret"])


def described(name: str, secret: bytes) -> str:
    """Say what was found, and of the secret itself no more than its length."""
    return f"{name}, {len(secret)} characters long"


def _token(match: re.Match[bytes]) -> bool:
    return not stand_ins.is_stand_in_token(match["secret"])


def _form(
    name: str,
    begins: str,
    pattern: bytes,
    genuine: Callable[[re.Match[bytes]], bool] = _token,
    *,
    lookback: int = 0,
    in_binary: bool = True,
    start: bytes = _START,
) -> Form:
    return Form(
        name,
        tuple(word.replace("~", " ").encode() for word in begins.split()),
        re.compile(start + pattern),
        re.compile(pattern),
        genuine,
        lookback,
        in_binary,
    )


def _simple(name: str, begins: str, pattern: bytes) -> Form:
    return _form(name, begins, rb"(?P<secret>" + pattern + rb")")


def _setting(name: bytes, sign: bytes, value: bytes) -> bytes:
    """The pattern of a named value, with quotes around either or without."""
    return name + _QUOTE + rb"?" + _GAP + sign + _GAP + _QUOTE + rb"?" + value


def _is_web_token(match: re.Match[bytes]) -> bool:
    """Tell whether a token's head says how it is signed, and its claims are no manual's."""
    head, claims = (_decoded(part) for part in match["secret"].split(b".")[:2])
    return b'"alg"' in head and not _MANUALS_CLAIMS.search(claims)


def _is_key_in_base64(match: re.Match[bytes]) -> bool:
    return b"PRIVATE KEY" in _decoded(match["secret"][:96])


def _is_basic(match: re.Match[bytes]) -> bool:
    """Tell whether credentials in base64 are a user's name and password."""
    user, colon, password = _decoded(match["secret"]).partition(b":")
    return bool(colon) and password.isascii() and not stand_ins.is_example(password, user)


def _decoded(text: bytes) -> bytes:
    """Decode base64 of either alphabet; empty where it is none."""
    whole = text.rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    try:
        return base64.b64decode(whole + b"=" * (-len(whole) % 4), validate=True)
    except binascii.Error:
        return b""


def _is_key(match: re.Match[bytes]) -> bool:  # noqa: ARG001 - a key has no stand-ins
    return True


def _value(match: re.Match[bytes]) -> bool:
    return not stand_ins.is_example(match["secret"], match.groupdict().get("user", b""))


def _generated(match: re.Match[bytes]) -> bool:
    return stand_ins.looks_generated(match["secret"])


FORMS = (
    _form(
        "a private key",
        "-----begin~",
        rb"(?P<secret>-----BEGIN (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----"
        rb"(?:\s|\\+[nr]|[\"'+(),|]|[A-Za-z-]{1,40}: [^\n\\]{0,200}(?:\n|\\+n)){1,40}"
        rb"[A-Za-z0-9+/=]{40})",
        _is_key,
        start=b"",
    ),
    _form(
        "a private key in base64",
        "ls0tls1crudjti",
        rb"(?P<secret>LS0tLS1CRUdJTi[A-Za-z0-9+/]{60,400}={0,2})",
        _is_key_in_base64,
    ),
    _form(
        "a PuTTY private key",
        "putty-user-key-file-",
        rb"PuTTY-User-Key-File-\d(?s:.){1,3000}?Private-Lines: \d+\s+"
        rb"(?P<secret>[A-Za-z0-9+/=]{40})",
        _is_key,
    ),
    _simple("an age key", "age-secret-key-1", rb"AGE-SECRET-KEY-1[A-Z0-9]{58}" + _END),
    _simple("an AWS access key", "akia asia", rb"A[KS]IA[A-Z0-9]{16}" + _END),
    _form(
        "an AWS secret key",
        "secret_access_key secretaccesskey secret-access-key",
        _setting(
            rb"(?i:secret[_-]?access[_-]?key)",
            rb"(?:[:=>]|=>)",
            rb"(?P<secret>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])",
        ),
        start=b"",
    ),
    _simple(
        "a GitHub token",
        "ghp_ gho_ ghs_ ghu_ ghr_ github_pat_",
        rb"(?:gh[opsur]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,400})" + _END,
    ),
    _simple(
        "a GitLab token",
        "glpat- gldt- glrt- glptt- glcbt- glft- glimt- gloas- glsoat- glagent- glffct-",
        rb"gl[a-z]{2,5}-[A-Za-z0-9_-]{20,400}",
    ),
    _simple(
        "a Slack token",
        "xoxb- xoxp- xoxa- xoxe- xoxe. xoxo- xoxr- xoxs- xapp-",
        rb"(?:xox[abeoprs][-.]|xapp-)[A-Za-z0-9.]+-[A-Za-z0-9-]{10,400}",
    ),
    _simple(
        "a Slack webhook",
        "hooks.slack.com/services/",
        rb"hooks\.slack\.com/services/T[A-Z0-9]{8,400}/B[A-Z0-9]{8,400}/[A-Za-z0-9]{20,400}",
    ),
    _simple(
        "a Discord webhook",
        "discord.com/api/webhooks/ discordapp.com/api/webhooks/",
        rb"discord(?:app)?\.com/api/webhooks/\d{15,400}/[A-Za-z0-9_-]{60,400}",
    ),
    _simple("a Google API key", "aiza", rb"AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"),
    _simple("a Google client secret", "gocspx-", rb"GOCSPX-[A-Za-z0-9_-]{28}"),
    _simple("a Stripe key", "sk_live_ rk_live_", rb"[rs]k_live_[A-Za-z0-9]{20,400}"),
    _simple("a token for a Python package index", "pypi-age", rb"pypi-AgE[A-Za-z0-9_-]{50,400}"),
    _simple("an npm token", "npm_", rb"npm_[A-Za-z0-9]{36}" + _END),
    _simple("a RubyGems key", "rubygems_", rb"rubygems_[0-9a-f]{48}" + _END),
    _simple("a Hugging Face token", "hf_", rb"hf_[A-Za-z]{34}" + _END),
    _simple("an Anthropic key", "sk-ant-", rb"sk-ant-[A-Za-z0-9_-]{32,400}"),
    _simple(
        "an OpenAI key",
        "sk-proj- sk-svcacct- sk-admin-",
        rb"sk-(?:proj|svcacct|admin)-[A-Za-z0-9_-]{32,400}",
    ),
    _form(
        "an OpenAI key",
        "t3blbkfj",
        rb"(?P<secret>sk-[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20})",
        lookback=23,
    ),
    _simple("a Groq key", "gsk_", rb"gsk_[A-Za-z0-9]{50,400}"),
    _simple("a Replicate token", "r8_", rb"r8_[A-Za-z0-9]{37}" + _END),
    _simple("an xAI key", "xai-", rb"xai-[A-Za-z0-9]{80}" + _END),
    _simple("a Weights & Biases key", "wandb_v1_", rb"wandb_v1_[A-Za-z0-9_]{40,400}"),
    _simple("a Databricks token", "dapi dose", rb"(?:dapi|dose)[0-9a-f]{32}(?:-\d)?" + _END),
    _simple("a SendGrid key", "sg.", rb"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"),
    _simple("a Docker Hub token", "dckr_pat_ dckr_oat_", rb"dckr_[po]at_[A-Za-z0-9_-]{27,400}"),
    _simple("a DigitalOcean token", "dop_v1_ doo_v1_ dor_v1_", rb"do[opr]_v1_[0-9a-f]{64}"),
    _simple("a Grafana token", "glsa_ glc_", rb"gl(?:sa|c)_[A-Za-z0-9+/=_]{32,400}"),
    _simple("a Vault token", "hvs. hvb.", rb"hv[bs]\.[A-Za-z0-9_-]{24,400}"),
    _simple("an Atlassian token", "atatt3x", rb"ATATT3x[A-Za-z0-9_=-]{100,400}"),
    _simple("a New Relic key", "nrak-", rb"NRAK-[A-Z0-9]{27}" + _END),
    _simple("a Shopify token", "shpat_ shpss_ shpca_", rb"shp(?:at|ss|ca)_[0-9a-fA-F]{32}" + _END),
    _simple("a Sentry token", "sntrys_ sntryu_", rb"sntry[su]_[A-Za-z0-9+/=_]{40,400}"),
    _simple("a Postman key", "pmak-", rb"PMAK-[0-9a-f]{24}-[0-9a-f]{34}"),
    _simple("a Linear key", "lin_api_", rb"lin_api_[A-Za-z0-9]{40}" + _END),
    _simple("an Artifactory key", "akcp", rb"AKCp[A-Za-z0-9]{60,400}"),
    _form(
        "a JSON Web Token",
        "eyj",
        rb"(?P<secret>eyJ[A-Za-z0-9_-]{10,400}\.eyJ[A-Za-z0-9_-]{10,4000}\.[A-Za-z0-9_-]{20,1024})",
        _is_web_token,
    ),
    _form(
        "an Azure account's key",
        "accountkey",
        _setting(
            rb"AccountKey",
            rb"(?:[:=]|\\u003[dD])",
            rb"(?P<secret>(?:[A-Za-z0-9+/]|%2[BbFf]){86})",
        ),
    ),
    _form(
        "an Azure shared access key",
        "sharedaccesskey",
        _setting(
            rb"SharedAccessKey",
            rb"(?:[:=]|\\u003[dD])",
            rb"(?P<secret>(?:[A-Za-z0-9+/]|%2[BbFf]){43})",
        ),
    ),
    _form(
        "an Azure shared access signature",
        "sig=",
        rb"sig=(?P<secret>(?:[A-Za-z0-9]|%2[BbFf]|[+/]){43}(?:%3[Dd]|=))",
        start=rb"(?<=[?&;])",
        in_binary=False,
    ),
    _form(
        "a signature in an address",
        "x-amz-signature x-goog-signature",
        rb"(?i:X-(?:Amz|Goog)-Signature)(?:=|%3[Dd]|\\u003[dD])(?P<secret>[0-9a-fA-F]{64,1024})",
    ),
    _form(
        "an Authorization header with credentials",
        "authorization",
        _setting(
            rb"(?i:authorization)",
            rb"[:=,]",
            rb"(?i:basic)\s+(?P<secret>[A-Za-z0-9+/]{8,400}={0,2})",
        ),
        _is_basic,
        in_binary=False,
    ),
    _form(
        "an Authorization header with a token",
        "authorization",
        _setting(
            rb"(?i:authorization)",
            rb"[:=,]",
            rb"(?i:bearer|token)\s+(?P<secret>[A-Za-z0-9+/._~=-]{16,400})",
        ),
        _generated,
        in_binary=False,
    ),
    _form(
        "a registry's credentials",
        '"auth" \\"auth\\"',
        rb"\\?\"auth\\?\"\s{0,8}:\s{0,8}\\?\"(?P<secret>[A-Za-z0-9+/]{8,400}={0,2})\\?\"",
        _is_basic,
        start=b"",
    ),
    _form(
        "a registry's token",
        "identitytoken registrytoken",
        rb"(?:identity|registry)token\\?\"\s{0,8}:\s{0,8}\\?\"(?P<secret>[^\"\\\s]{8,400})\\?\"",
        _value,
    ),
    _form(
        "an npm registry's credentials",
        ":_authtoken :_password :_auth",
        rb":_(?:authToken|password|auth)" + _GAP + rb"=" + _GAP + rb"\"?(?P<secret>[^\s\"]{8,400})",
        _value,
        start=b"",
    ),
    _form(
        "a password in a netrc",
        "machine default",
        rb"(?:machine\s{1,8}\S{1,253}|default)\s{1,8}login\s{1,8}(?P<user>\S{1,128})\s{1,8}"
        rb"(?:account\s{1,8}\S{1,128}\s{1,8})?password\s{1,8}(?P<secret>\S{1,256})",
        _value,
        in_binary=False,
    ),
    _form(
        "the hash of a password",
        ":$y$ :$gy$ :$1$ :$5$ :$6$ :$7$ :$2a$ :$2b$ :$2y$ :$apr1$ :$argon2",
        rb":(?P<secret>\$(?:g?y|[1567]|2[aby]|apr1|argon2id?)\$[^\s:\"']{16,256})",
        start=rb"(?<=[a-z0-9_-])",
        in_binary=False,
    ),
    _form(
        "a password in a command",
        "curl~ wget~ http~ https~",
        rb"[a-z]{4,5}[ ][^\n|;]{0,400}?(?<=[ ])(?:-u|--user|--proxy-user|-a|-U)(?:[ ]{1,4}|=)?"
        rb"[\"']?[^\s:\"'/]{1,128}:(?P<secret>[^\s\"'/]{1,256})",
        _value,
        in_binary=False,
    ),
    _form(
        "a password in a command",
        "mysql mariadb sshpass~ redis-cli~",
        rb"(?:(?:mysql|mariadb)[a-z-]{0,12}[ ][^\n|;]{0,300}?(?<=[ ])-p"
        rb"|sshpass[ ]{1,4}-p[ ]{0,4}|redis-cli[ ][^\n|;]{0,300}?(?<=[ ])-a[ ]{1,4})"
        rb"[\"']?(?P<secret>[^\s\"'/]{1,256})",
        _value,
        in_binary=False,
    ),
    _form(
        "a password in a command",
        "login~",
        rb"login[ ][^\n|;]{0,300}?(?<=[ ])-p[ ]{1,4}[\"']?(?P<secret>[^\s\"'/-][^\s\"'/]{0,255})",
        _value,
        in_binary=False,
    ),
)
