"""Keys that a careless encoding would confuse, for hypothesis."""

from datetime import UTC, datetime

from hypothesis import strategies as st

Parts = list[tuple[str, object]]
"""A key: dtype and value of each of its parts."""

# They look alike, end early, swallow what follows, or are the very bytes of another part; of few pieces many keys are nearly alike.
PIECES = ["", "a", "b", "c", "ab", "bc", "\0", "é", "e\u0301", "ﬁ", "fi", "İ", "i̇", "1", "A", " ", "\x04\0\0\0\x01b", "\x03\0\0\0\x08"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=3).map("".join)
NUMBERS = st.sampled_from([0, 1, -1, 255, 256, 719_163, 2**31 - 1, -(2**31)])  # 719163: the ordinal of 1970-01-01
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
VALUES = {
    "bool": st.booleans(),
    "int32": NUMBERS,
    "int64": NUMBERS,
    "string": TEXTS,
    "timestamp": st.sampled_from([EPOCH, EPOCH.replace(microsecond=1), EPOCH.replace(day=2)]),
    "binary": TEXTS.map(str.encode),
}
ALIKE = st.lists(st.sampled_from(sorted(VALUES)).flatmap(lambda dtype: st.tuples(st.just(dtype), VALUES[dtype])), min_size=1, max_size=3)


def identity(parts: Parts) -> tuple[tuple[str, str], ...]:
    """What a key is: its types and values. As text, because to Python True is 1 and 1 is 1.0."""
    return tuple((dtype, repr(value)) for dtype, value in parts)
