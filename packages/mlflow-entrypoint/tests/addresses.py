"""Generated addresses of databases, and where their secrets may not show up."""

from __future__ import annotations

from urllib.parse import quote, quote_plus

from hypothesis import strategies as st

MARK = "Zq7"
"""In every generated secret, between generated text: what nothing else contains."""
NASTY = "@:/?#%&=+;,'\"`\\ {}[]()$*!|<>^~äßЖ漢🔑\t"
_ENCODERS = (
    lambda text: text,
    lambda text: quote(text, safe=""),
    lambda text: quote_plus(text),
    lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    lambda text: text.replace("%", "%25").replace("@", "%40"),
)


_signs = [*NASTY, *"abcXYZ019._-", "://", " a://", ",http://", "; https://", "\n", " --x=", "@b:c"]
_around = st.lists(st.sampled_from(_signs), max_size=12).map("".join)
_secrets = st.builds("{}{}{}".format, _around, st.just(MARK), _around)
_users = st.text(st.sampled_from("abcdef019._-@ '\"%+"), max_size=8)
_hosts = st.sampled_from(
    ["db", "db.example.org", "10.0.0.7", "[2001:db8::7]", "one,two", "db-1:5432", "[::1]:5432"]
)
_schemes = st.sampled_from(
    [
        "postgresql",
        "postgresql+psycopg2",
        "postgresql+psycopg",
        "mysql+pymysql",
        "mysql",
        "mariadb+mysqldb",
        "mssql+pyodbc",
        "oracle",
        "nothing+such",
        "no-such",
    ]
)
_names = st.sampled_from(["password", "sslpassword", "ssl_key_password", "passwd", "PWD", "token"])


@st.composite
def addresses(draw: st.DrawFn) -> str:
    """An address as somebody may write it, encoded or not."""
    scheme, host = draw(_schemes), draw(_hosts)
    encode = draw(st.sampled_from(_ENCODERS))
    secret, other = draw(_secrets), draw(_secrets)
    user = draw(_users)
    parameter = f"{draw(_names)}={quote_plus(other)}"
    odbc = f"DRIVER={{ODBC Driver 18}};SERVER={host};UID={user};PWD={{{other}}}"
    quoted = other.replace("\\", "\\\\").replace("'", "\\'")
    dsn = f"host={host} password='{quoted}' dbname=mlflow"
    return draw(
        st.sampled_from(
            [
                f"{scheme}://{user}:{encode(secret)}@{host}/mlflow",
                f"{scheme}://:{encode(secret)}@{host}",
                f"{scheme}://{user}:{encode(secret)}@{host}/mlflow?charset=utf8&{parameter}",
                f"{scheme}://{user}@{host}/mlflow?{parameter}",
                f"{scheme}:///mlflow?host={host}&user={quote_plus(user)}&{parameter}",
                f"{scheme}:///?odbc_connect={quote_plus(odbc)}",
                f"{scheme}:///?dsn={quote_plus(dsn)}",
                f"{scheme}://{user}:{encode(secret)}@{host}:port/mlflow",
                f"'{scheme}://{user}:{encode(secret)}@{host}/mlflow'",
                f"https://{quote(user)}:{quote(secret, safe='')}@{host}/mlflow?{parameter}",
            ]
        )
    )
