"""`penstock features get` as a user sees it, of a gateway that runs."""

import asyncio
import subprocess
import sys

import pytest

from tests.serving.running import ROOT, running_gateway


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """What each command of `COMMANDS` said, with its exit code."""
    folder = tmp_path_factory.mktemp("features")

    async def run() -> dict[str, tuple[int, str]]:
        async with running_gateway(folder) as running:

            def ask(command: str) -> tuple[int, str]:
                arguments = ["-m", "penstock.cli.main", "features", "get", *command.split(), "--url", running.url, "--api-key", "env:KEY"]
                env = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": str(ROOT), "KEY": running.key, "COLUMNS": "80"}
                done = subprocess.run([sys.executable, *arguments], cwd=folder, env=env, capture_output=True, text=True, check=False)
                return done.returncode, done.stdout + done.stderr

            return {command: await asyncio.to_thread(ask, command) for command in COMMANDS}

    return asyncio.run(run())


ONE = "carriers carrier=UA"
SEVERAL = "all_features number=1 departs=2013-06-01T12:00:00Z carrier=UA carrier=AA number=2"
TOKEN = "carriers carrier=UA --token"
MISSPELT = "carriers carrer=UA"
NOT_A_PAIR = "carriers UA"
NO_KEYS = "carriers"
COMMANDS = (ONE, SEVERAL, TOKEN, MISSPELT, NOT_A_PAIR, NO_KEYS)


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")] for line in text.splitlines() if line[:1] in "│┃"]


def test_one_entity_has_a_line_per_feature_with_status_and_age(said: dict[str, tuple[int, str]]) -> None:
    code, text = said[ONE]
    assert code == 0
    assert cells(text) == [
        ["feature", "value", "status", "age"],
        ["fleet__hubs", "['EWR', 'ORD']", "PRESENT", "1:00:00"],
        ["fleet__since", "1926-04-06 00:00:00+00:00", "PRESENT", "1:00:00"],
        ["delays__mean", "12.25", "PRESENT", "0:15:00"],
        ["delays__flights", "4", "PRESENT", "0:15:00"],
    ]
    assert "at 2013-06-01 12:00:00 UTC, under contract " in text


def test_several_have_a_column_each_named_by_what_differs(said: dict[str, tuple[int, str]]) -> None:
    code, text = said[SEVERAL]
    assert code == 0
    table = cells(text)
    assert table[0] == ["feature", "number=1 carrier=UA", "number=2 carrier=AA"]
    assert table[1] == ["delays__mean", "12.25", "NOT_FOUND"]
    assert table[-1] == ["load__seats", "151", "NOT_FOUND"]


def test_a_token_is_printed_alone(said: dict[str, tuple[int, str]]) -> None:
    code, text = said[TOKEN]
    assert (code, len(text.splitlines()), text.startswith("p1.")) == (0, 1, True)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (MISSPELT, "'carrer' is no join key of this service; it has 'carrier' (string)"),
        (NOT_A_PAIR, "join key 'UA': expected name=value"),
        (NO_KEYS, "1 missing join key(s): 'carrier' (string)"),
    ],
)
def test_what_is_wrong_with_a_key_is_said(command: str, message: str, said: dict[str, tuple[int, str]]) -> None:
    code, text = said[command]
    assert (code, message in text) == (1, True), text
