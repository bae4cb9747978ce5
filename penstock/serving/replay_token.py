"""Replay tokens: what produced an answer, as text short enough to keep beside a prediction.

    p1. base64url( crc32 u32 | msgpack )

A token names the definitions and the time an answer was made under, the keys it was asked for and, per view and row,
event time, attempt and checksum of the stored value, whatever came of it. It holds no feature value and no secret,
but the join keys in clear. `quality.replay` computes the same values from the lake and compares.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Hashable, Sequence
from struct import pack, unpack
from typing import Generic, TypeVar
from zlib import crc32

import msgspec

from penstock.errors import ReplayError
from penstock.serving.judgement import HELD, Outcome
from penstock.serving.lookup import Answer

PREFIX = "p1."
_CRC_BYTES = 4

T = TypeVar("T", bound=Hashable)


class Column(msgspec.Struct, Generic[T], frozen=True, array_like=True):
    """One value per row, each distinct one told once.

    Args:
        distinct: the values that occur.
        places: per row, which of them; None: the rows are as they stand.
    """

    distinct: list[T]
    places: list[int] | None = None

    def rows(self) -> list[T]:
        """The value of each row."""
        return self.distinct if self.places is None else [self.distinct[place] for place in self.places]


class TokenRead(msgspec.Struct, frozen=True, array_like=True):
    """Views of one entity, read by one key.

    Args:
        entity: its name.
        columns: of the request, that held its join keys.
        keys: the encoded key of each row; None: nobody's.
    """

    entity: str
    columns: list[str]
    keys: Column[bytes | None]


class TokenView(msgspec.Struct, frozen=True, array_like=True):
    """One view of the answer.

    Args:
        name: in the service.
        view, version, generation: what was read.
        complete_until_us: its watermark at the time; None: nothing was published.
        read: which of the token's reads has its key.
        outcomes: a letter per row, see `judgement.Outcome`.
        held: event time and attempt of each row whose outcome tells them, in order.
        checksums: of the same rows, 4 bytes each.
    """

    name: str
    view: str
    version: int
    generation: int
    complete_until_us: int | None
    read: int
    outcomes: str
    held: Column[tuple[int, int]]
    checksums: bytes


class Token(msgspec.Struct, frozen=True, array_like=True):
    """What produced an answer.

    Args:
        service, snapshot: what was asked, and the fingerprint of the definitions it was served under.
        now_us: the time values were judged at.
        rows: how many entities were asked for.
        reads, views: where values came from.
    """

    service: str
    snapshot: str
    now_us: int
    rows: int
    reads: list[TokenRead]
    views: list[TokenView]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Token).decode


def token_of(answer: Answer) -> str:
    """The token of an answer."""
    plan = answer.plan
    reads = [
        TokenRead(read.entity, [column for column, _ in read.keys], _column(keys))
        for read, keys in zip(plan.reads, answer.keys, strict=True)
    ]
    views = []
    for view, (read, _), parts, all_present in zip(plan.views, plan.places, answer.parts, answer.all_present, strict=False):
        held = parts if all_present else [part for part in parts if part.checksum is not None]
        views.append(
            TokenView(
                view.name,
                *view.slot,
                view.complete_until_us,
                read,
                "".join([part.outcome for part in parts]),
                _column([(part.event_time_us, part.attempt) for part in held]),  # type: ignore[misc]  # told with the checksum
                pack(f">{len(held)}I", *[part.checksum for part in held]),
            )
        )
    body = _encode(Token(plan.service.name, plan.snapshot, answer.now_us, answer.rows, reads, views))
    return _as_text(crc32(body).to_bytes(_CRC_BYTES) + body)


def read_token(text: str) -> Token:
    """What a token names.

    Raises:
        ReplayError: cut short, altered, or no token at all.
    """
    hint = "give the whole text of `token`, as the answer had it"
    text = text.strip()
    if not text.startswith(PREFIX):
        raise ReplayError(f"a replay token begins with '{PREFIX}', this one with {text[:8]!r}", hint=hint)
    try:
        whole = urlsafe_b64decode(text[len(PREFIX) :] + "=" * (-(len(text) - len(PREFIX)) % 4))
        body = whole[_CRC_BYTES:]
        if int.from_bytes(whole[:_CRC_BYTES]) != crc32(body) or _as_text(whole) != text:
            raise ReplayError("the replay token does not pass its checksum: it was cut or altered", hint=hint)
        token = _decode(body)
        _require_whole(token)
    except (Base64Error, ValueError, IndexError, msgspec.DecodeError) as error:  # ValueError: no ASCII
        raise ReplayError(f"not a replay token: {error}", hint=hint) from None
    return token


def _as_text(whole: bytes) -> str:
    return PREFIX + urlsafe_b64encode(whole).rstrip(b"=").decode()


def held_rows(view: TokenView) -> list[tuple[int, int, int] | None]:
    """Per row, event time, attempt and checksum of what was held; None: the outcome tells none."""
    told = iter(zip(view.held.rows(), unpack(f">{len(view.checksums) // 4}I", view.checksums), strict=True))
    found: list[tuple[int, int, int] | None] = []
    for letter in view.outcomes:
        if Outcome(letter) in HELD:
            (event_time_us, attempt), checksum = next(told)
            found.append((event_time_us, attempt, checksum))
        else:
            found.append(None)
    return found


def _require_whole(token: Token) -> None:
    """Of a checksum that fits by chance, too, nothing is taken that does not fit together."""
    for read in token.reads:
        if len(read.keys.rows()) != token.rows:
            raise ValueError("keys are missing")
    for view in token.views:
        if len(view.outcomes) != token.rows or not 0 <= view.read < len(token.reads):
            raise ValueError(f"rows of view '{view.name}' are missing")
        if sum(Outcome(letter) in HELD for letter in view.outcomes) != len(view.held.rows()):
            raise ValueError(f"event times of view '{view.name}' are missing")
        if len(view.checksums) != 4 * len(view.held.rows()):
            raise ValueError(f"checksums of view '{view.name}' are missing")


def _column(values: Sequence[T]) -> Column[T]:
    distinct = dict.fromkeys(values)
    if len(distinct) == len(values):
        return Column(values)  # type: ignore[arg-type]  # a tuple is as good
    places = {value: place for place, value in enumerate(distinct)}
    return Column(list(distinct), [places[value] for value in values])
