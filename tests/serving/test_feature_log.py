"""What is logged of what was served: a fixed sample, off the request path, bounded, and nothing half-written is read."""

import asyncio
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest

from penstock.clock import EPOCH, FixedClock, from_micros, to_micros
from penstock.config import FeatureLogSettings, GatewaySettings
from penstock.contract import minutes
from penstock.online.memory import MemoryStore
from penstock.serving.cache import NearCache
from penstock.serving.feature_log import ALIVE, Batch, FeatureLog, LoggedRow, read_segment, shippable
from penstock.serving.judgement import Outcome
from penstock.serving.lookup import Answer, look_up
from penstock.serving.plan import Planner
from penstock.serving.replay_token import held_rows, read_token, token_of
from penstock.serving.state import StateKeeper
from tests.serving.running import Running, running_gateway
from tests.serving.world import NOON, SNAPSHOT, carrier_key, serve_everything

ALL = FeatureLogSettings(sample=1.0)
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)


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


def counts(batch: Batch) -> tuple[int, int, int, int, int]:
    """Requests, rows answered, sampled and dropped, and rows that are there."""
    return batch.requests, batch.served, batch.sampled, batch.dropped, len(batch.rows)


@contextmanager
def disk_full_at(size: int) -> Iterator[None]:
    """No file may grow beyond a size: as on a full disk, a write is done in part, and the next one refused."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


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


def test_what_could_not_be_written_is_told_as_dropped_once_it_can_be(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("no folder")
    clock, dropped = FixedClock(NOON), list[int]()
    one = FeatureLog(tmp_path / "log", ALL, clock, dropped.append)
    first, second = answer("UA", None), answer("UA", "XX")

    async def run() -> None:
        for taken in (first, second):
            one.take(taken, "lost", "everyone")
            clock.advance(SECOND)
            await one.flush()
        await one.flush()  # nobody asks, and it still cannot be written
        (tmp_path / "log").unlink()
        clock.advance(SECOND)
        await one.flush()  # no request either: the counts do not wait for one
        one.take(first, "kept", "everyone")
        clock.advance(SECOND)
        await one.close()

    asyncio.run(run())
    lost, kept, end = batches(tmp_path / "log")
    assert (counts(lost), lost.from_us, lost.until_us) == ((2, 4, 3, 3, 0), to_micros(NOON), to_micros(NOON + 2 * SECOND))
    assert (counts(kept), kept.from_us) == ((1, 2, 1, 0, 1), to_micros(NOON + 3 * SECOND))
    assert (counts(end), end.from_us, end.until_us) == ((0, 0, 0, 0, 0), *[to_micros(NOON + 4 * SECOND)] * 2)
    assert dropped == [1, 2]


def test_what_was_lost_in_a_long_outage_is_told_by_the_hour(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("no folder")
    clock = FixedClock(NOON - timedelta(minutes=10))
    one = FeatureLog(tmp_path / "log", ALL, clock)
    answered = answer("UA")

    async def run() -> None:
        for _ in range(3 * 12):  # 11:50 to 14:50, a request each five minutes
            one.take(answered, "lost", "everyone")
            clock.advance(timedelta(minutes=5))
            await one.flush()
        (tmp_path / "log").unlink()
        await one.close()

    asyncio.run(run())
    *told, _ = batches(tmp_path / "log")
    by_hour = [
        sum(b.dropped for b in told if NOON + n * HOUR <= from_micros(b.from_us) and from_micros(b.until_us) <= NOON + (n + 1) * HOUR)
        for n in range(-1, 3)
    ]
    assert by_hour == [2, 12, 12, 10]
    assert sum(batch.dropped for batch in told) == 36
    assert len(told) < 10


def test_the_counts_of_a_flush_that_was_cancelled_and_then_failed_are_told(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("no folder")
    dropped: list[int] = []
    one = FeatureLog(tmp_path / "log", ALL, FixedClock(NOON), dropped.append)
    answered = answer("UA")

    async def run() -> None:
        one.take(answered, "lost", "everyone")
        with one._writing:
            await cancelled_flush(one)
            one.take(answered, "kept", "everyone")  # while the thread waits
        async with asyncio.timeout(10):
            while not dropped:
                await asyncio.sleep(0)  # lets it
        with one._writing:
            (tmp_path / "log").unlink()
        await one.close()

    asyncio.run(run())
    assert [counts(batch) for batch in batches(tmp_path / "log")] == [(1, 1, 1, 1, 0), (1, 1, 1, 0, 1)]
    assert dropped == [1]


def test_a_flush_that_is_cancelled_before_its_thread_begins_loses_nothing(tmp_path: Path) -> None:
    one, busy = FeatureLog(tmp_path, ALL, FixedClock(NOON)), Event()
    answered = answer("UA")

    async def run() -> None:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as pool:
            loop.set_default_executor(pool)
            loop.run_in_executor(None, busy.wait)
            one.take(answered, "first", "everyone")
            await cancelled_flush(one)
            busy.set()
            one.take(answered, "second", "everyone")
            await one.close()

    asyncio.run(run())
    assert [row.request_id for batch in batches(tmp_path) for row in batch.rows] == ["first", "second"]


async def cancelled_flush(one: FeatureLog) -> None:
    flush = asyncio.create_task(one.flush())
    await asyncio.sleep(0)  # it asks for its thread
    flush.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flush


@pytest.mark.parametrize("room", [0, 1, 100])
def test_a_disk_that_gets_full_in_the_middle_of_a_batch_costs_that_batch_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, room: int
) -> None:
    one = FeatureLog(tmp_path, ALL, FixedClock(NOON))
    answered = answer("UA")

    async def run() -> None:
        one.take(answered, "first", "everyone")
        await one.flush()
        whole = one._segment[0].stat().st_size  # type: ignore[index]
        for n in range(3):
            one.take(answered, f"lost {n}", "everyone")
            with disk_full_at(whole + room if n == 0 else room):  # a new segment has no room either
                await one.flush()
        one.take(answered, "last", "everyone")
        await one.close()

    asyncio.run(run())
    told = batches(tmp_path)
    assert [counts(batch) for batch in told] == [(1, 1, 1, 0, 1), (3, 3, 3, 3, 0), (1, 1, 1, 0, 1)]
    assert [row.request_id for batch in told for row in batch.rows] == ["first", "last"]
    assert "damaged" not in caplog.text
    assert len(caplog.messages) == 1
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".segment"] * 2  # none that is empty


def test_a_folder_that_is_full_leaves_no_segment_open_that_could_be_brought_away(tmp_path: Path) -> None:
    settings = FeatureLogSettings(sample=1.0, folder_mb=1)
    one, _ = log(tmp_path, answer("UA"), settings=settings, close=False)
    (tmp_path / "1-aa-5.segment").write_bytes(bytes(1_000_001))
    answered = answer("UA")

    async def run() -> None:
        one.take(answered, "lost", "everyone")
        await one.flush()

    asyncio.run(run())
    assert [counts(batch) for batch in batches(tmp_path)] == [(1, 1, 1, 0, 1)]


def test_a_log_whose_folder_was_removed_begins_again(tmp_path: Path) -> None:
    one, _ = log(tmp_path / "log", answer("UA"), close=False)
    (segment,) = (tmp_path / "log").iterdir()
    segment.unlink()
    (tmp_path / "log").rmdir()
    answered = answer("UA")

    async def run() -> None:
        one.take(answered, "lost", "everyone")
        await one.flush()
        one.take(answered, "kept", "everyone")
        await one.close()

    asyncio.run(run())
    assert [counts(batch) for batch in batches(tmp_path / "log")] == [(1, 1, 1, 1, 0), (1, 1, 1, 0, 1)]


def test_who_is_not_asked_says_so_now_and_then_and_who_ends_says_that_last(tmp_path: Path) -> None:
    clock = FixedClock(NOON)
    one = FeatureLog(tmp_path, ALL, clock)
    answered = answer("UA")

    async def run() -> None:
        one.take(answered, "first", "everyone")
        for _ in range(2 * 60 + 1):
            clock.advance(timedelta(minutes=1) / 2)
            await one.flush()
        await one.close()

    asyncio.run(run())
    asked, *idle, end = batches(tmp_path)
    assert (asked.requests, [batch.requests for batch in (*idle, end)]) == (1, [0, 0, 0, 0, 0])
    assert [from_micros(batch.until_us - asked.until_us) - EPOCH for batch in idle] == [ALIVE, 2 * ALIVE, 3 * ALIVE, 4 * ALIVE]
    assert end.from_us == end.until_us == to_micros(clock.now())


def test_who_told_nothing_has_nothing_to_end(tmp_path: Path) -> None:
    clock = FixedClock(NOON)
    one = FeatureLog(tmp_path / "log", ALL, clock)
    clock.advance(SECOND)
    asyncio.run(one.close())
    assert not (tmp_path / "log").exists()


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
    path.write_bytes(data[:first] + bytes(100))  # what a machine that lost its power may leave
    assert len(list(read_segment(path))) == 1


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
