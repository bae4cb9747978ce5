"""Answers that are no gateway's, or do not fit the request, are never handed on as features."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import REQUEST_ERRORS, RequestError, Unavailable
from penstock.sdk.wire import parse_response

GOOD = {
    "service": "s",
    "contract": "c",
    "snapshot": "f",
    "now": "2013-06-01T12:00:00Z",
    "features": ["v__a", "v__b"],
    "dtypes": ["float64", "list[timestamp]"],
    "views": [{"view": "v", "version": 1, "generation": 1, "complete_until": None, "features": [0, 1]}],
    "rows": [
        {
            "values": [1.0, ["2013-06-01T12:00:00.000001Z"]],
            "statuses": ["PRESENT", "PRESENT"],
            "event_times": ["2013-06-01T12:00:00Z"],
            "ages_s": [0.0],
            "attempts": [1],
        }
    ],
}


def parsed(body: object, status: int = 200, rows: int = 1) -> object:
    return parse_response(status, msgspec.json.encode(body), service="s", rows=rows)


def test_an_answer_with_fields_unknown_to_this_client_is_read() -> None:
    assert parsed({**GOOD, "new": 1}) == parsed(GOOD)


@pytest.mark.parametrize("cut", ["values", "statuses", "event_times", "ages_s", "attempts"])
def test_an_answer_that_lacks_a_part_is_refused(cut: str) -> None:
    row = {**GOOD["rows"][0], cut: GOOD["rows"][0][cut][:-1]}  # type: ignore[index]
    with pytest.raises(Unavailable):
        parsed({**GOOD, "rows": [row]})


@pytest.mark.parametrize("change", [{"service": "t"}, {"rows": []}, {"features": ["v__a"]}, {"dtypes": []}, {"views": []}, {"rows": None}])
def test_an_answer_to_another_question_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(Unavailable):
        parsed({**GOOD, **change})


@pytest.mark.parametrize("held", [[0], [0, 0], [0, 2], [-1, 0], [0, 1, 1]])
def test_a_feature_that_not_exactly_one_view_holds_is_refused(held: list[int]) -> None:
    with pytest.raises(Unavailable):
        parsed({**GOOD, "views": [{**GOOD["views"][0], "features": held}]})  # type: ignore[dict-item,index]


@pytest.mark.parametrize("value", [1, "noon", ["noon"], {}])
def test_an_instant_that_is_none_is_refused(value: object) -> None:
    row = {**GOOD["rows"][0], "values": [1.0, value]}  # type: ignore[dict-item,index]
    with pytest.raises(Unavailable):
        parsed({**GOOD, "rows": [row]})


@pytest.mark.parametrize(("status", "error"), [(400, RequestError), (404, RequestError), (500, Unavailable), (502, Unavailable)])
def test_a_refusal_that_is_no_gateways_is_told_by_its_status(status: int, error: type[RequestError]) -> None:
    for body in (b"<html>Bad gateway</html>", b"", b"{}", b'{"error": "no"}', b'{"error": {"code": "invented", "message": "m"}}'):
        with pytest.raises(RequestError) as caught:
            parse_response(status, body, service="s", rows=1)
        assert type(caught.value) is error


@pytest.mark.parametrize("code", sorted(REQUEST_ERRORS))
def test_every_code_is_raised_as_its_class(code: str) -> None:
    with pytest.raises(RequestError, match=r"why .*abc.*\n.*hint: then") as caught:
        parsed({"error": {"code": code, "message": "why", "hint": "then", "request_id": "abc"}}, 400)
    assert type(caught.value) is REQUEST_ERRORS[code]


@given(st.integers(100, 599), st.binary())
def test_no_bytes_are_taken_for_features(status: int, body: bytes) -> None:
    with pytest.raises(RequestError):
        parse_response(status, body, service="s", rows=1)
