"""Values of fields, at their limits and in between: what generated operations are given."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from seatrial.differential.steps import Name

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

LOWER = ("a", "b", "ab", "c1")
"""Names that every database sorts alike."""
ODD = ("A", "B_", "a b", "a.b", "a-b", "größe", "数値", "a%b", "x'y", '"x"', "🚢")
"""Names of another case, with signs that searches give a meaning, and with other letters."""
PATHS = ("a/b", "a%2Fb", "a//b", "../a")
"""Names that an address may take for a path."""
ENDS = (0, 1, -1, 5, 2**31 - 1, 2**31, -(2**31) - 1, 2**53 + 1, 2**63 - 1, -(2**63))
"""Whole numbers, and where those of some width end."""
NUMBERS = (0.0, 1.0, -1.0, 0.1, 1e-9, 1.5e300, -1.5e300, 5e-324, 2.0**53 + 2, 1.0 + 2**-52)
WEIRD_NUMBERS = (math.nan, math.inf, -math.inf, -0.0)

texts = st.one_of(
    st.sampled_from(["", *LOWER, *ODD, *PATHS, " a ", "a\nb", "a\tb", "\\", "null", "0", "True"]),
    st.text(
        # No database but SQLite keeps a NUL, and no client can send half of a surrogate pair.
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
        max_size=12,
    ),
)
"""Texts that a server gives no meaning."""
long_texts = st.sampled_from([249, 250, 5000]).map("x".__mul__)
very_long_texts = st.sampled_from([6000, 6001, 8000, 8001]).map("y".__mul__)
values = st.one_of(texts, texts, long_texts, very_long_texts)
"""Values of params and tags that are logged to runs: MLflow checks their length."""
short_values = st.one_of(texts, texts, texts, long_texts)
"""Values of tags elsewhere: PostgreSQL has room for 5000 characters, and MLflow does not check."""
short_keys = st.one_of(
    st.sampled_from(LOWER),
    st.sampled_from(LOWER),
    st.sampled_from([*ODD, *PATHS, "mlflow.note.content", "x" * 250]),
)
"""Keys of other tags: few, so that steps meet on them."""
keys = st.one_of(
    st.sampled_from(LOWER),
    st.sampled_from(LOWER),
    st.sampled_from([*ODD, *PATHS, "", "mlflow.note.content", "x" * 250, "x" * 251]),
)
"""Keys of params, tags and metrics of runs."""
plain_keys = st.sampled_from(LOWER)
names = st.one_of(
    st.sampled_from(LOWER).map(Name),
    st.sampled_from(LOWER).map(Name),
    st.sampled_from([*ODD, "a/b", "a%2Fb"]).map(Name),
    st.just(Name("x" * 200)),
)
"""Names of experiments: PostgreSQL has room for 256 characters, though MLflow takes 500."""
run_names = st.sampled_from([*LOWER, *LOWER, *ODD, "x" * 250])
"""Names of runs: PostgreSQL has room for 250 characters, and MLflow does not check."""
steps = st.one_of(st.integers(-3, 3), st.sampled_from(ENDS))
numbers = st.one_of(
    st.sampled_from(NUMBERS),
    st.sampled_from(WEIRD_NUMBERS),
    st.integers(-3, 3).map(float),
    st.floats(allow_subnormal=False),
)
"""Values of metrics."""
times = st.one_of(st.integers(0, 5), st.sampled_from([2**31, 2**40, 1]))
"""Times that a client sends, in milliseconds: none of them is near the present."""


def short_tags(most: int = 3) -> SearchStrategy[dict[str, str]]:
    """Tables of tags of what is made with them."""
    return st.dictionaries(short_keys, short_values, max_size=most)
