"""What is logged of what was served: a fixed sample, off the request path, bounded, and nothing half-written is read."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.clock import FixedClock, to_micros
from penstock.config import FeatureLogSettings, GatewaySettings
from penstock.contract import minutes
from penstock.online.memory import MemoryStore
from penstock.serving.cache import NearCache
from penstock.serving.feature_log import Batch, FeatureLog, LoggedRow, read_segment, shippable
from penstock.serving.judgement import Outcome
from penstock.serving.lookup import Answer, look_up
from penstock.serving.plan import Planner
from penstock.serving.replay_token import held_rows, read_token, token_of
from penstock.serving.state import StateKeeper
from tests.serving.running import Running, running_gateway
from tests.serving.world import NOON, SNAPSHOT, carrier_key, serve_everything

ALL = FeatureLogSettings(sample=1.0)


def answer(*carriers: str | None) -> Answer:
    async def run() -> Answer:
        store = MemoryStore()
        await serve_everything(store)
        keeper = StateKeeper(store)
        assert await keeper.refresh()
        assert keeper.state is not None
        plan = Planner().plan(keeper.state, "carriers")
        return await look_up(plan, NearCache(store, 0), to_micros(NOON), [{"carrier": one} for one in carriers], GatewaySettings())

    return asyncio.run(run())


def log(folder: Path, *answers: Answer, settings: FeatureLogSettings = ALL, close: bool = True) -> tuple[FeatureLog, list[int]]:
    """A log that took some answers and wrote them, and how many rows it dropped each time."""
    dropped: list[int] = []
    one = FeatureLog(folder, settings, FixedClock(NOON), dropped.append)

    async def run() -> None:
        for n, taken in enumerate(answers):
            one.take(taken, f"request {n}", "everyone")
        await (one.close() if close else one.flush())

    asyncio.run(run())
    return one, dropped


def batches(folder: Path) -> list[Batch]:
    return [batch for path in shippable(folder) for batch in read_segment(path)]


def test_a_row_is_logged_with_everything_exact_replay_needs(tmp_path: Path) -> None:
    served = answer("UA", "XX")
    log(tmp_path, served)
    (batch,) = batches(tmp_path)
    assert (batch.requests, batch.served, batch.sampled, batch.dropped) == (1, 2, 2, 0)
    known, unknown = batch.rows
    assert (known.request_id, known.principal, known.service, known.snapshot) == ("request 0", "everyone", "carriers", SNAPSHOT.fingerprint)
    assert (known.at_us, known.row, unknown.row) == (to_micros(NOON), 0, 1)
    fleet, delays = known.views
    assert (delays.view, delays.version, delays.generation, delays.complete_until_us) == ("delays", 1, 3, to_micros(NOON))
    assert (delays.entity, delays.columns, delays.key) == ("carrier", ["carrier"], carrier_key("UA"))
    assert (delays.features, delays.values, delays.statuses) == (["delays__mean", "delays__flights"], [12.25, 4], ["PRESENT", "PRESENT"])
    held = held_rows(read_token(token_of(served)).views[1])[0]
    assert held == (delays.event_time_us, delays.attempt, delays.checksum) == (to_micros(NOON - minutes(15)), 7, delays.checksum)
    assert fleet.features == ["fleet__hubs", "fleet__since"]
    assert [(v.outcome, v.values, v.event_time_us, v.attempt, v.checksum) for v in unknown.views] == [
        (Outcome.ABSENT, [None, None], None, None, None)
    ] * 2


def test_the_sample_is_of_entities_and_the_same_in_every_gateway(tmp_path: Path) -> None:
    carriers = [f"C{n}" for n in range(500)]
    fifth = FeatureLogSettings(sample=0.2)
    log(tmp_path / "one", answer(*carriers), answer(*carriers), settings=fifth)
    log(tmp_path / "other", answer(*reversed(carriers)), settings=fifth)
    keys = [row.views[0].key for batch in batches(tmp_path / "one") for row in batch.rows]
    # of an entity all rows or none; 500 x 0.2 = 100, and a binomial of 500 lies within 60..140 but for one in 100,000
    assert sorted(keys) == sorted([*set(keys)] * 2)  # type: ignore[type-var]
    assert 60 <= len(set(keys)) <= 140
    assert {row.views[0].key for batch in batches(tmp_path / "other") for row in batch.rows} == set(keys)


@pytest.mark.parametrize(("sample", "logged"), [(0.0, 0), (1.0, 3)])
def test_nobody_is_not_logged_and_a_sample_of_none_logs_none(tmp_path: Path, sample: float, logged: int) -> None:
    log(tmp_path, answer("UA", None, "XX", "DL"), settings=FeatureLogSettings(sample=sample))
    (batch,) = batches(tmp_path)
    assert (batch.served, batch.sampled, len(batch.rows)) == (4, logged, logged)


def test_what_does_not_fit_the_queue_is_dropped_and_counted(tmp_path: Path) -> None:
    _, dropped = log(tmp_path, answer("A", "B"), answer("C", "D", "E"), settings=FeatureLogSettings(sample=1.0, queue_rows=3))
    (batch,) = batches(tmp_path)
    assert (batch.sampled, batch.dropped, len(batch.rows), dropped) == (5, 2, 3, [2])


def test_a_folder_that_cannot_be_written_drops_and_counts_and_is_complained_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    dropped: list[int] = []
    one = FeatureLog(tmp_path / "file", ALL, FixedClock(NOON), dropped.append)

    async def run() -> None:
        for _ in range(3):
            one.take(answered, "r", "everyone")
            await one.flush()

    answered = answer("UA")
    asyncio.run(run())
    assert dropped == [1, 1, 1]
    assert len(caplog.messages) == 1
    assert "cannot be written" in caplog.text


def test_segments_never_take_more_than_their_folder_may(tmp_path: Path) -> None:
    (tmp_path / "1-aa-5.segment").write_bytes(bytes(1_000_001))
    _, dropped = log(tmp_path, answer("UA"), settings=FeatureLogSettings(sample=1.0, folder_mb=1))
    assert dropped == [1]


def test_what_is_still_being_written_is_left_alone_and_what_a_dead_writer_left_is_taken(tmp_path: Path) -> None:
    one, _ = log(tmp_path, answer("UA"), close=False)
    assert [path.suffix for path in tmp_path.iterdir()] == [".open"]
    assert shippable(tmp_path) == []
    one._segment[1].close()  # type: ignore[index]  # as when its process ends: the lock goes with it
    (path,) = shippable(tmp_path)
    assert path.suffix == ".segment"
    assert [len(batch.rows) for batch in read_segment(path)] == [1]


def test_a_segment_cut_anywhere_gives_the_batches_before_the_cut(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = FeatureLog(tmp_path, ALL, FixedClock(NOON))
    answered = answer("UA")

    async def run() -> list[int]:
        ends = []
        for _ in range(2):
            one.take(answered, "r", "everyone")
            await one.flush()
            ends.append(one._segment[0].stat().st_size)  # type: ignore[index]
        await one.close()
        return ends

    first, whole = asyncio.run(run())
    (path,) = shippable(tmp_path)
    data = path.read_bytes()
    assert len(data) == whole
    for cut in range(0, whole, 7):
        path.write_bytes(data[:cut])
        assert len(list(read_segment(path))) == (cut >= first)
    path.write_bytes(data[:first] + bytes((data[first] ^ 1,)) + data[first + 1 :])
    assert len(list(read_segment(path))) == 1
    assert "is cut or damaged" in caplog.text


def test_segments_of_one_writer_have_names_in_the_order_they_were_begun_though_the_clock_stands_still(tmp_path: Path) -> None:
    one = FeatureLog(tmp_path, ALL, FixedClock(NOON))
    answered = answer("UA")

    async def run() -> None:
        for n in range(3):
            one.take(answered, f"request {n}", "everyone")
            await one.close()

    asyncio.run(run())
    assert [row.request_id for batch in batches(tmp_path) for row in batch.rows] == ["request 0", "request 1", "request 2"]


def test_a_gateway_logs_what_it_answered_and_closes_its_segment_when_it_ends(tmp_path: Path) -> None:
    async def run() -> list[dict[str, Any]]:
        async with running_gateway(tmp_path, log=ALL) as running, httpx.AsyncClient(base_url=running.url) as http:
            headers = {"authorization": f"Bearer {running.key}", "x-request-id": "mine"}
            await http.post("/v1/features", json={"service": "carriers", "entities": [{"carrier": "UA"}]}, headers=headers)
            refused = await http.post("/v1/features", json={"service": "carriers", "entities": [{}]}, headers=headers)
            assert refused.status_code == 400
            return folder(running)

    def folder(running: Running) -> Any:
        return running.settings.path(running.settings.feature_log.folder)

    where: Any = asyncio.run(run())
    (batch,) = batches(where)
    rows: list[LoggedRow] = batch.rows
    assert [(row.request_id, row.principal) for row in rows] == [("mine", "everyone")]
    assert batch.requests == 1
