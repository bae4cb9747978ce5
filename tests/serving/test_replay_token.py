"""A token says exactly what produced an answer, and no altered one is taken for it."""

import asyncio
from base64 import urlsafe_b64encode
from zlib import crc32

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.clock import to_micros
from penstock.config import GatewaySettings
from penstock.contract import hours, minutes
from penstock.errors import ReplayError
from penstock.online.codec import decode_value, encode_value
from penstock.online.memory import MemoryStore
from penstock.serving.cache import NearCache
from penstock.serving.lookup import Answer, look_up
from penstock.serving.plan import Planner
from penstock.serving.replay_token import Column, Token, TokenRead, TokenView, held_rows, read_token, token_of
from penstock.serving.state import StateKeeper
from tests.serving.world import DELAYS, NOON, SNAPSHOT, carrier_key, flight_key, put, schema_of, serve_everything

FLIGHTS = [
    {"carrier": "UA", "number": 1, "departs": "2013-06-01T12:00:00Z"},
    {"carrier": "UA", "number": 2, "departs": "2013-06-01T12:00:00Z"},
    {"carrier": None, "number": 1, "departs": "2013-06-01T12:00:00Z"},
    {"carrier": "OO", "number": 1, "departs": "2013-06-01T12:00:00Z"},
]


def answered() -> Answer:
    async def run() -> Answer:
        store = MemoryStore()
        await serve_everything(store)
        await put(store, DELAYS, carrier_key("OO"), NOON - hours(3), [1.0, 1, []], attempt=9)  # past its ttl of 2 h
        keeper = StateKeeper(store)
        assert await keeper.refresh()
        assert keeper.state is not None
        plan = Planner().plan(keeper.state, "all_features")
        return await look_up(plan, NearCache(store, 0), to_micros(NOON), FLIGHTS, GatewaySettings())

    return asyncio.run(run())


def test_a_token_names_definitions_time_keys_and_per_row_what_came_of_each_view() -> None:
    token = read_token(token_of(answered()))
    assert (token.service, token.snapshot, token.now_us, token.rows) == ("all_features", SNAPSHOT.fingerprint, to_micros(NOON), 4)
    ua, oo = carrier_key("UA"), carrier_key("OO")
    assert [(read.entity, read.columns) for read in token.reads] == [("carrier", ["carrier"]), ("flight", ["carrier", "number", "departs"])]
    assert token.reads[0].keys.rows() == [ua, ua, None, oo]
    assert token.reads[0].keys.distinct == [ua, None, oo]
    assert token.reads[1].keys.rows() == [flight_key("UA", 1, NOON), flight_key("UA", 2, NOON), None, flight_key("OO", 1, NOON)]

    delays, fleet, load = token.views
    assert (delays.name, delays.view, delays.version, delays.generation, delays.read) == ("delays", "delays", 1, 3, 0)
    assert delays.complete_until_us == to_micros(NOON)
    assert (delays.outcomes, fleet.outcomes, load.outcomes) == ("FFNX", "FFNN", "FNNN")
    quarter = to_micros(NOON - minutes(15))
    served = decode_value(encode_value(schema_of(DELAYS), quarter, 7, [12.25, 4, [60.0, 7.5]])).checksum
    expired = decode_value(encode_value(schema_of(DELAYS), to_micros(NOON - hours(3)), 9, [1.0, 1, []])).checksum
    assert held_rows(delays) == [(quarter, 7, served), (quarter, 7, served), None, (to_micros(NOON - hours(3)), 9, expired)]


def test_a_token_is_text_that_a_url_and_a_shell_take() -> None:
    text = token_of(answered())
    assert text.startswith("p1.")
    assert set(text) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
    assert len(text) < 700
    assert read_token(f" {text}\n") == read_token(text)


def test_no_altered_token_is_taken() -> None:
    text = token_of(answered())
    for n in range(len(text)):
        for other in ("A", "_"):
            if text[n] != other:
                with pytest.raises(ReplayError):
                    read_token(text[:n] + other + text[n + 1 :])
        with pytest.raises(ReplayError):
            read_token(text[:n])
    for more in ("A", "=", " A", "\n."):
        with pytest.raises(ReplayError):
            read_token(text + more)


@given(st.text(max_size=40))
def test_text_that_is_no_token_is_refused(text: str) -> None:
    for whole in (text, "p1." + text):
        with pytest.raises(ReplayError):
            read_token(whole)


GOOD = Token("s", "f", 0, 1, [TokenRead("e", ["k"], Column([b"k"]))], [TokenView("v", "v", 1, 1, None, 0, "F", Column([(1, 2)]), bytes(4))])


@pytest.mark.parametrize(
    "token",
    [
        msgspec.structs.replace(GOOD, rows=2),
        msgspec.structs.replace(GOOD, reads=[]),
        msgspec.structs.replace(GOOD, reads=[TokenRead("e", ["k"], Column([b"k"], [1]))]),
        msgspec.structs.replace(GOOD, views=[msgspec.structs.replace(GOOD.views[0], outcomes="?")]),
        msgspec.structs.replace(GOOD, views=[msgspec.structs.replace(GOOD.views[0], outcomes="N")]),
        msgspec.structs.replace(GOOD, views=[msgspec.structs.replace(GOOD.views[0], checksums=bytes(3))]),
        msgspec.structs.replace(GOOD, views=[msgspec.structs.replace(GOOD.views[0], read=1)]),
    ],
)
def test_a_token_that_does_not_fit_together_is_refused_though_its_checksum_is_right(token: Token) -> None:
    def text(of: Token) -> str:
        body = msgspec.msgpack.encode(of)
        return "p1." + urlsafe_b64encode(crc32(body).to_bytes(4) + body).rstrip(b"=").decode()

    assert read_token(text(GOOD)) == GOOD
    with pytest.raises(ReplayError):
        read_token(text(token))
