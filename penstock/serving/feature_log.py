"""The feature log: what was served, of a sample of entities, written beside the gateway and off the request path.

    request ──► queue (bounded) ──► every second, a batch ──► <folder>/<writer>-<begun>.open ──► .segment ──► the lake

A row is logged if the hash of its keys is within the sample: of an entity all rows or none, in every gateway. A segment
is a file of frames, `length u32 | crc32 u32 | msgpack Batch`; a file still open is locked by its writer, so that one whose
writer is gone can be told. What does not fit is dropped and counted, never waited for; what could not be written is, too: its
counts are told once something can be written again, so that a gap is seen as one. A writer that lives tells a batch at least every
`ALIVE`, and one that ends says so: of one that does neither the log is late, or lost.
"""

import asyncio
import fcntl
import logging
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from io import FileIO
from pathlib import Path
from struct import Struct
from threading import Lock
from typing import Any
from zlib import crc32

import msgspec

from penstock.clock import MICROSECOND, Clock, to_micros
from penstock.config import FeatureLogSettings
from penstock.serving.judgement import Served
from penstock.serving.lookup import Answer
from penstock.serving.on_demand import given_of
from penstock.serving.plan import ServicePlan

logger = logging.getLogger(__name__)

OPEN, CLOSED = ".open", ".segment"

ALIVE = timedelta(minutes=15)
"""How often a writer that has not ended tells a batch, be it of nothing."""

_ALIVE_US, _HOUR_US = ALIVE // MICROSECOND, timedelta(hours=1) // MICROSECOND
_FRAME = Struct(">II")


class LoggedView(msgspec.Struct, frozen=True, array_like=True):
    """One view of a logged row. An on-demand view has no generation (0), watermark, entity (""), attempt and checksum; its columns
    are the request fields, its key their values as JSON.

    Args:
        name: in the service.
        view, version, generation, complete_until_us: what was read, and its watermark then.
        entity, columns, key: whose; the encoded key, None: nobody's.
        outcome: a letter, see `judgement.Outcome`.
        event_time_us, attempt, checksum: of the stored value, if the outcome tells them.
        features, values, statuses: what was served.
    """

    name: str
    view: str
    version: int
    generation: int
    complete_until_us: int | None
    entity: str
    columns: list[str]
    key: bytes | None
    outcome: str
    event_time_us: int | None
    attempt: int | None
    checksum: int | None
    features: list[str]
    values: Sequence[Any]
    statuses: Sequence[str]


class LoggedRow(msgspec.Struct, frozen=True, array_like=True):
    """One row of an answer.

    Args:
        request_id, principal: which request, and whose.
        service, contract, snapshot: what was served, under which definitions.
        at_us: the time the values were judged at.
        row: its place in the answer.
        views: what was served.
    """

    request_id: str
    principal: str
    service: str
    contract: str
    snapshot: str
    at_us: int
    row: int
    views: list[LoggedView]


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """What was served in a stretch of time. One of no length is its writer's last.

    Args:
        writer: the gateway process.
        from_us, until_us: the stretch.
        requests, served: how many requests and rows were answered.
        sampled: how many of the rows are within the sample.
        dropped: how many of those were dropped; the others are in `rows`.
    """

    writer: str
    from_us: int
    until_us: int
    requests: int
    served: int
    sampled: int
    dropped: int
    rows: list[LoggedRow]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Batch).decode


class FeatureLog:
    """Takes answers and writes them down later.

    Args:
        folder: of segments.
        settings: sample, bounds and times.
        clock: what segments and batches are named by.
        on_dropped: told how many rows within the sample were dropped, each time.
    """

    def __init__(
        self, folder: Path, settings: FeatureLogSettings, clock: Clock, on_dropped: Callable[[int], None] = lambda _: None
    ) -> None:
        self._on_dropped = on_dropped
        self._folder, self._settings, self._clock = folder, settings, clock
        self._below = int(settings.sample * 2**32)
        self._writer = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._queue: list[tuple[str, str, ServicePlan, int, int, list[bytes | None], list[Served], list[bytes]]] = []
        self._requests = self._served = self._sampled = self._dropped = 0
        self._since_us = to_micros(clock.now())
        self._told = (self._since_us, self._since_us)  # the stretch of the last batch; who has told nothing has nothing to end
        self._unwritten: list[tuple[Batch, list[Any]]] = []
        self._segment: tuple[Path, FileIO, int] | None = None
        self._writing = Lock()  # a flush that was cancelled goes on in its thread
        self._last_begun_us = 0
        self._complaint = ""

    def take(self, answer: Answer, request_id: str, principal: str) -> None:
        """Queue the rows of an answer that are within the sample."""
        self._requests += 1
        self._served += answer.rows
        if len(answer.keys) == 1:
            below = self._below
            mine = [n for n, key in enumerate(answer.keys[0]) if key is not None and crc32(key) < below]
        else:
            mine = [n for n, keys in enumerate(zip(*answer.keys, strict=True)) if self._is_in_sample(keys)]
        if not mine:
            return
        self._sampled += len(mine)
        room = max(0, self._settings.queue_rows - len(self._queue))
        if len(mine) > room:
            self._dropped += len(mine) - room
            self._on_dropped(len(mine) - room)
        for n in mine[:room]:
            keys, parts = [of_read[n] for of_read in answer.keys], [of_view[n] for of_view in answer.shown]
            given = [given_of(one, answer.given, n) for one in answer.plan.on_demand]
            self._queue.append((request_id, principal, answer.plan, answer.now_us, n, keys, parts, given))

    def _is_in_sample(self, keys: Sequence[bytes | None]) -> bool:
        whole = b"".join(key for key in keys if key is not None)
        return whole != b"" and crc32(whole) < self._below

    async def write_forever(self) -> None:
        """Write what is queued, every `flush_s`, in a thread; until cancelled."""
        while True:
            await asyncio.sleep(self._settings.flush_s)
            await self.flush()

    async def flush(self) -> None:
        """Write what is queued now."""
        now_us = self._cut()
        if self._unwritten or self._segment is not None:
            await asyncio.to_thread(self._write, now_us)

    async def close(self) -> None:
        """Write the rest, say that nothing follows, and close the segment."""
        now_us = self._cut()
        if self._told[0] != self._told[1]:
            self._tell(Batch(self._writer, now_us, now_us, 0, 0, 0, 0, []), [])
        await asyncio.to_thread(self._write, now_us)
        with self._writing:
            self._close_segment()

    def _cut(self) -> int:
        """Make a batch of what was counted since the last look, and say when that is."""
        now_us, queue = to_micros(self._clock.now()), self._queue
        if self._requests or now_us - self._told[1] >= _ALIVE_US:
            counts = (self._requests, self._served, self._sampled, self._dropped)
            self._tell(Batch(self._writer, self._since_us, now_us, *counts, []), queue)
        self._queue, self._since_us = [], now_us
        self._requests = self._served = self._sampled = self._dropped = 0
        return now_us

    def _tell(self, batch: Batch, queue: list[Any]) -> None:
        self._told = (batch.from_us, batch.until_us)
        self._unwritten.append((batch, queue))

    def _write(self, now_us: int) -> None:
        """Write the batches that wait, in a thread.

        They wait in a list and are no arguments, so that a flush that is cancelled before its thread begins loses none. Only who holds
        the lock takes from the list; behind what is taken the event loop may add meanwhile.
        """
        with self._writing:
            due = self._unwritten[:]
            left: list[tuple[Batch, list[Any]]] = []
            try:
                if due:
                    self._append(b"".join(_framed(batch, queue) for batch, queue in due), now_us)
                    self._complaint = ""
            except OSError as error:
                self._close_segment()  # what takes no more may be gone, and what is in it can be brought to the lake
                left = [(batch, []) for batch in _without_rows(batch for batch, _ in due)]
                self._complain(error, sum(len(queue) for _, queue in due))
            finally:
                self._unwritten[: len(due)] = left
            if self._segment is not None:
                _, file, begun_us = self._segment
                old = now_us - begun_us >= self._settings.segment_s * 1_000_000
                if old or os.fstat(file.fileno()).st_size >= self._settings.segment_mb * 1_000_000:
                    self._close_segment()

    def _append(self, frames: bytes, now_us: int) -> None:
        if self._segment is None:  # else it is there, or went away, and what would be written to the segment with it
            self._folder.mkdir(parents=True, exist_ok=True)
        _require_room(self._folder, self._settings.folder_mb)
        file = self._open_segment(now_us)
        whole = os.fstat(file.fileno()).st_size
        try:
            rest = memoryview(frames)
            while rest:  # a disk that gets full takes a part, and refuses the next
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                file.truncate(whole)  # a part of a frame would hide what is behind it
            raise

    def _complain(self, error: OSError, dropped: int) -> None:
        if dropped:
            self._on_dropped(dropped)
        said = error.strerror or str(error)  # without a path, in which each segment is another
        if self._complaint != said:  # the same each second must not fill the log
            self._complaint = said
            logger.error("the feature log in %s cannot be written, its rows are dropped: %s", self._folder, error)

    def _open_segment(self, now_us: int) -> FileIO:
        if self._segment is None:
            now_us = self._last_begun_us = max(now_us, self._last_begun_us + 1)  # it tells segments apart
            path = self._folder / f"{self._writer}-{now_us}{OPEN}"
            file = path.open("ab", buffering=0)  # what was refused must not be tried again by closing it
            fcntl.flock(file, fcntl.LOCK_EX)
            self._segment = (path, file, now_us)
        return self._segment[1]

    def _close_segment(self) -> None:
        if self._segment is not None:
            path, file, _ = self._segment
            self._segment = None
            with file, suppress(OSError):  # under its old name it is one whose writer is gone
                if os.fstat(file.fileno()).st_size:
                    path.replace(path.with_suffix(CLOSED))
                else:
                    path.unlink()


def _without_rows(batches: Iterable[Batch]) -> list[Batch]:
    """The same counts, all rows of them dropped; those within one hour are added up, or an outage would fill the memory.

    Not those of two: windows of an hour are judged by them, and a batch that reaches over the end of one says nothing about it.
    """
    found: list[Batch] = []
    for batch in batches:
        lost = msgspec.structs.replace(batch, dropped=batch.sampled, rows=[])
        if found and found[-1].from_us // _HOUR_US == lost.until_us // _HOUR_US:
            last = found.pop()
            counts = {name: getattr(last, name) + getattr(lost, name) for name in ("requests", "served", "sampled", "dropped")}
            lost = msgspec.structs.replace(lost, from_us=last.from_us, **counts)
        found.append(lost)
    return found


def _require_room(folder: Path, megabytes: int) -> None:
    held = sum(path.stat().st_size for path in folder.iterdir() if path.suffix in (OPEN, CLOSED))
    if held > megabytes * 1_000_000:
        raise OSError(f"segments take more than feature_log.folder_mb, {megabytes}; `penstock feature-log ship` brings them to the lake")


def _logged(
    request_id: str,
    principal: str,
    plan: ServicePlan,
    at_us: int,
    row: int,
    keys: Sequence[bytes | None],
    parts: Sequence[Served],
    given: Sequence[bytes],
) -> LoggedRow:
    views = []
    for view, (read, _), part in zip(plan.views, plan.places, parts[: len(plan.views)], strict=True):
        views.append(
            LoggedView(
                view.name,
                *view.slot,
                view.complete_until_us,
                view.entity.name,
                [column for column, _ in view.keys],
                keys[read],
                part.outcome,
                part.event_time_us,
                part.attempt,
                part.checksum,
                [feature.name for feature in view.features],
                part.values,
                part.statuses,
            )
        )
    for one, of_caller, part in zip(plan.on_demand, given, parts[len(plan.views) :], strict=True):
        fields, names = [name for name, _ in one.view.request], [feature.name for feature in one.features]
        views.append(
            LoggedView(
                one.name,
                one.name,
                one.view.version,
                0,
                None,
                "",
                fields,
                of_caller,
                part.outcome,
                part.event_time_us,
                None,
                None,
                names,
                part.values,
                part.statuses,
            )
        )
    service = plan.service
    return LoggedRow(request_id, principal, service.name, service.contract, plan.snapshot, at_us, row, views)


def _framed(batch: Batch, queue: Iterable[Any]) -> bytes:
    body = _encode(msgspec.structs.replace(batch, rows=[_logged(*one) for one in queue]))
    return _FRAME.pack(len(body), crc32(body)) + body


def shippable(folder: Path) -> list[Path]:
    """Segments whose writer is done with them, oldest first; those left open by a writer that is gone are closed first."""
    if not folder.is_dir():
        return []
    for path in folder.glob(f"*{OPEN}"):
        with suppress(OSError), path.open("rb") as file:  # it is locked, or was closed just now
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.replace(path.with_suffix(CLOSED))
    return sorted(folder.glob(f"*{CLOSED}"), key=lambda path: name_of(path)[1])


def name_of(path: Path) -> tuple[str, int]:
    """Who wrote a segment, and when it was begun, in microseconds; of one writer later ones are greater."""
    writer, _, begun_us = path.stem.rpartition("-")
    return writer, int(begun_us)


def read_segment(path: Path) -> Iterator[Batch]:
    """The whole batches of a segment; where a writer ended in the middle of one, that one is not told."""
    data = path.read_bytes()
    start = 0
    while start + _FRAME.size <= len(data):
        length, checksum = _FRAME.unpack_from(data, start)
        body = data[start + _FRAME.size : start + _FRAME.size + length]
        if not length or len(body) < length or crc32(body) != checksum:  # a machine that fails may leave zeros, the checksum of nothing
            logger.warning("%s is cut or damaged at byte %d; what was before it is kept", path.name, start)
            return
        yield _decode(body)
        start += _FRAME.size + length
