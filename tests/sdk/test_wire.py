"""Answers that are no gateway's, or do not fit the request, are never handed on as features."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import REQUEST_ERRORS, RequestError, Unavailable
from penstock.sdk import FeatureResult, FeatureValue
from penstock.sdk.wire import parse_response

NOON = datetime(2013, 6, 1, 12, tzinfo=UTC)
GOOD = {
    "service": "s",
    "contract": "c",
    "snapshot": "f",
    "now_us": 1_370_088_000_000_000,
    "token": "p1.",
    "features": ["v__a", "v__b"],
    "dtypes": ["float64", "list[timestamp]"],
    "views": [{"view": "v", "version": 1, "generation": 1, "complete_until": None, "features": [0, 1]}],
    "rows": 2,
    "values": [[1.0, None], [[NOON], None]],
    "statuses": ["PRESENT", ["PRESENT", "NULL"]],
    "event_times_us": [[1_370_088_000_000_000, None]],
}


def parsed(body: object, status: int = 200, rows: int = 2) -> FeatureResult:
    return parse_response(status, msgspec.msgpack.encode(body), service="s", rows=rows)


def test_what_is_one_for_all_rows_is_told_of_each() -> None:
    result = parsed(GOOD)
    assert result.statuses == (("PRESENT", "PRESENT"), ("PRESENT", "NULL"))
    assert result.rows[0] == {
        "v__a": FeatureValue(1.0, "PRESENT", NOON, timedelta(0)),
        "v__b": FeatureValue([NOON], "PRESENT", NOON, timedelta(0)),
    }
    assert result.rows[1] == {"v__a": FeatureValue(None, "PRESENT", None, None), "v__b": FeatureValue(None, "NULL", None, None)}


def test_an_answer_with_fields_unknown_to_this_client_is_read() -> None:
    assert parsed({**GOOD, "new": 1}) == parsed(GOOD)


@pytest.mark.parametrize("cut", ["values", "statuses", "event_times_us", "features", "dtypes", "views"])
def test_an_answer_that_lacks_a_part_is_refused(cut: str) -> None:
    with pytest.raises(Unavailable):
        parsed({**GOOD, cut: GOOD[cut][:-1]})  # type: ignore[index]
    with pytest.raises(Unavailable):
        parsed({name: value for name, value in GOOD.items() if name != cut})


@pytest.mark.parametrize(
    "change",
    [
        {"service": "t"},
        {"rows": 1},
        {"values": [[1.0], [[NOON], None]]},
        {"statuses": ["PRESENT", ["PRESENT"]]},
        {"event_times_us": [[None]]},
        {"rows": None},
    ],
)
def test_an_answer_to_another_question_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(Unavailable):
        parsed({**GOOD, **change})


@pytest.mark.parametrize("held", [[0], [0, 0], [0, 2], [-1, 0], [0, 1, 1]])
def test_a_feature_that_not_exactly_one_view_holds_is_refused(held: list[int]) -> None:
    with pytest.raises(Unavailable):
        parsed({**GOOD, "views": [{**GOOD["views"][0], "features": held}]})  # type: ignore[dict-item,index]


@pytest.mark.parametrize("value", [1, "noon", ["noon"], {}])
def test_an_instant_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(Unavailable):
        parsed({**GOOD, "values": [[1.0, None], [value, None]]})


@pytest.mark.parametrize(("status", "error"), [(400, RequestError), (404, RequestError), (500, Unavailable), (502, Unavailable)])
def test_a_refusal_that_is_no_gateways_is_told_by_its_status(status: int, error: type[RequestError]) -> None:
    for body in (b"<html>Bad gateway</html>", b"", b"{}", b'{"error": "no"}', b'{"error": {"code": "invented", "message": "m"}}'):
        with pytest.raises(RequestError) as caught:
            parse_response(status, body, service="s", rows=1)
        assert type(caught.value) is error


@pytest.mark.parametrize("code", sorted(REQUEST_ERRORS))
def test_every_code_is_raised_as_its_class(code: str) -> None:
    with pytest.raises(RequestError, match=r"why .*abc.*\n.*hint: then") as caught:
        failure = {"error": {"code": code, "message": "why", "hint": "then", "request_id": "abc"}}
        parse_response(400, msgspec.json.encode(failure), service="s", rows=1)
    assert type(caught.value) is REQUEST_ERRORS[code]


@given(st.integers(100, 599), st.binary())
def test_no_bytes_are_taken_for_features(status: int, body: bytes) -> None:
    with pytest.raises(RequestError):
        parse_response(status, body, service="s", rows=1)
