"""The gateway's log: lines that a machine can read, and never a key or value of anybody."""

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.config import GatewaySettings
from penstock.online.memory import MemoryStore
from penstock.serving.admission import Admission
from penstock.serving.logs import JsonLines, TextLines, log_as_set, without_values
from tests.serving.running import ROOT, running_gateway
from tests.serving.world import serve_everything

PLANTED = "planted-4711"


@pytest.fixture
def as_it_was() -> Iterator[None]:
    """Puts logging back after the test."""
    names = ("", "penstock", "uvicorn")
    before = [(logging.getLogger(name), logging.getLogger(name).level, list(logging.getLogger(name).handlers)) for name in names]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers = handlers


def record(message: str, *arguments: object, **more: Any) -> logging.LogRecord:
    made = logging.getLogger("penstock.x").makeRecord("penstock.x", logging.WARNING, "", 1, message, arguments, None, extra=more)
    made.created = 1_772_366_400.5  # 2026-03-01T12:00:00.5Z
    return made


def test_a_line_is_one_json_object_with_what_was_given_beside_the_message() -> None:
    line = JsonLines().format(record("two\nlines of %s", "text", request_id="abc", turned_away=7, path=Path("x")))
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2026-03-01T12:00:00.500Z",
        "level": "warning",
        "logger": "penstock.x",
        "message": "two\nlines of text",
        "request_id": "abc",
        "turned_away": 7,
        "path": "x",
    }


def test_a_line_for_people_says_the_same() -> None:
    assert TextLines().format(record("%d keys", 3)) == "2026-03-01T12:00:00.500Z warning penstock.x: 3 keys"


@pytest.mark.usefixtures("as_it_was")
def test_uvicorns_lines_go_the_same_way_and_other_libraries_only_warn(capsys: pytest.CaptureFixture[str]) -> None:
    log_as_set(GatewaySettings(log="json", log_level="info"))
    logging.getLogger("uvicorn.error").info("Uvicorn running", extra={"color_message": "\x1b[1mUvicorn"})
    logging.getLogger("uvicorn.error").debug("too much")
    logging.getLogger("penstock.serving.app").debug("too much")
    logging.getLogger("httpx").info("too much")
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("httpx").exception("failed")
    first, second = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (first["message"], first["level"], set(first)) == ("Uvicorn running", "info", {"time", "level", "logger", "message"})
    assert second["error"].endswith("ValueError: why")


@pytest.mark.usefixtures("as_it_was")
def test_the_level_is_that_of_the_gateway(capsys: pytest.CaptureFixture[str]) -> None:
    for level, lines in (("debug", 2), ("info", 1), ("warning", 0)):
        log_as_set(GatewaySettings(log_level=level))
        logging.getLogger("penstock.x").debug("d")
        logging.getLogger("penstock.x").info("i")
        logging.getLogger("uvicorn.x").debug("d")
        assert len(capsys.readouterr().err.splitlines()) == lines


class Broken(MemoryStore):
    async def read(self, *_: object) -> Any:
        try:
            raise KeyError(PLANTED)
        except KeyError as error:
            raise RuntimeError(f"no {PLANTED}") from error


def test_no_key_or_value_is_logged_whatever_is_asked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "penstock")

    async def run() -> None:
        store = Broken()
        await serve_everything(store)
        async with running_gateway(tmp_path, store) as running, httpx.AsyncClient(base_url=running.url) as http:
            entity = {"carrier": PLANTED}
            asked: list[tuple[Any, str, int]] = [
                ({"service": "carriers", "entities": [entity]}, running.key, 500),
                ({"service": "carriers", "entities": [{PLANTED: 1}]}, running.key, 400),
                ({"service": "carriers", "entities": [{"carrier": [PLANTED]}]}, running.key, 400),
                ({"service": PLANTED, "entities": [entity]}, running.key, 404),
                ({"service": "all_features", "entities": [entity]}, running.carriers_key, 403),
                ({"service": "carriers", "entities": [entity]}, PLANTED, 401),
            ]
            for number, (body, key, status) in enumerate(asked):
                headers = {"authorization": f"Bearer {key}", "x-request-id": f"r{number}"}
                assert (await http.post("/v1/features", json=body, headers=headers)).status_code == status

    asyncio.run(run())
    assert PLANTED not in "\n".join(JsonLines().format(line) for line in caplog.records)
    failed, *refused = [line for line in caplog.records if hasattr(line, "request_id")]
    assert (failed.levelname, failed.__dict__["request_id"]) == ("ERROR", "r0")
    assert failed.getMessage().count("caused by") == 1
    assert [line.getMessage() for line in refused] == [
        "request r1 refused: invalid_entity",
        "request r2 refused: malformed_request",
        "request r3 refused: unknown_service",
        "request r4 refused: not_authorized",
        "request r5 refused: not_authenticated",
    ]
    assert {line.levelname for line in refused} == {"DEBUG"}


def test_where_an_error_came_from_is_told_to_its_first_cause() -> None:
    try:
        try:
            {}["secret"]
        except KeyError:
            raise ValueError("a secret")  # noqa: B904
    except ValueError as error:
        told = without_values(error)
    assert told.count("test_gateway_logs.py") == 2
    assert [line for line in told.splitlines() if not line.startswith(" ")] == ["ValueError", "caused by", "KeyError"]


def test_what_fails_each_second_is_said_once_until_it_is_another_or_went_well(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        async with running_gateway(tmp_path) as running:
            keys = running.settings.path(running.settings.gateway.keys_file)
            good = keys.read_text()
            for text in ("{", "{", "[]", good, "[]", "[]"):
                keys.write_text(text)
                await running.gateway.refresh()

    asyncio.run(run())
    said = [line.getMessage().partition(": ") for line in caplog.records if line.levelno == logging.WARNING]
    assert [about for about, _, _ in said] == ["keeping the API keys known so far"] * 3
    assert said[0] != said[1] == said[2]


def test_turning_away_is_said_when_it_begins_and_every_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    at = [100.0]
    admission = Admission(1, lambda: at[0], lambda: 0.0)

    def refuse(times: int) -> None:
        for _ in range(times):
            with pytest.raises(Exception, match="more requests"):
                admission.let_in()

    with admission.doing(100):
        refuse(3)
        at[0] += 9.9
        refuse(2)
        at[0] += 0.1
        refuse(1)
    assert [line.__dict__["turned_away"] for line in caplog.records] == [1, 5]


WHAT_IS_IMPORTED = """
import json, sys
from penstock.config import Settings
from penstock.serving.gateway import _App
_App(Settings(), (), 0, None)()
print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))
"""


def test_what_is_off_is_not_even_imported(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WHAT_IS_IMPORTED], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    assert not set(json.loads(done.stdout)) & {"opentelemetry", "jwt", "cryptography", "httpx"}
