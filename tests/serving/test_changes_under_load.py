"""Pointers, registry and workers change while requests come: none fails, and none is answered from two states."""

import asyncio
import os
from pathlib import Path

import pytest

from benchmarks.serving.change import change
from penstock.config import Settings
from tests.serving.running import project_on

pytestmark = pytest.mark.real

ROUNDS = 5 if "PENSTOCK_KILLS" in os.environ else 1  # make soak


def test_no_request_fails_or_sees_two_states(cassandra_settings: Settings, endpoint: tuple[list[str], int], tmp_path: Path) -> None:
    settings = project_on(cassandra_settings, endpoint, tmp_path, "changes_test")
    seen = asyncio.run(change(settings, *endpoint, rounds=ROUNDS, rate=100, pause_s=2))
    assert seen.changes == dict.fromkeys(["pointers", "registry", "reload", "worker ended", "worker killed"], ROUNDS)
    assert not seen.failed
    assert seen.mixed == 0
    assert set(seen.generations) == {1, 2}
    assert set(seen.layouts) == {2, 4}
    assert not seen.client_failed
    assert seen.client_answers > 50
