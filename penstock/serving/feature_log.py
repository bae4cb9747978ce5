"""The feature log: what was served, of a sample of entities, written beside the gateway and off the request path.

    request ──► queue (bounded) ──► every second, a batch ──► <folder>/<writer>-<begun>.open ──► .segment ──► the lake

A row is logged if the hash of its keys is within the sample: of an entity all rows or none, in every gateway. A segment
is a file of frames, `length u32 | crc32 u32 | msgpack Batch`; a file still open is locked by its writer, so that one whose
writer is gone can be told. What does not fit is dropped and counted, never waited for.
"""

import asyncio
import fcntl
import logging
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from struct import Struct
from threading import Lock
from typing import IO, Any
from zlib import crc32

import msgspec

from penstock.clock import Clock, to_micros
from penstock.config import FeatureLogSettings
from penstock.serving.judgement import Served
from penstock.serving.lookup import Answer
from penstock.serving.on_demand import given_of
from penstock.serving.plan import ServicePlan

logger = logging.getLogger(__name__)

OPEN, CLOSED = ".open", ".segment"
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
    """What was served in a stretch of time.

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
        self._segment: tuple[Path, IO[bytes], int] | None = None
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
        batch, queue = self._next_batch()
        if not batch.requests and self._segment is None:
            return
        try:
            await asyncio.to_thread(self._write, batch, queue)
            self._complaint = ""
        except OSError as error:
            self._on_dropped(len(queue))
            if self._complaint != str(error):  # the same each second must not fill the log
                self._complaint = str(error)
                logger.error("the feature log in %s cannot be written, its rows are dropped: %s", self._folder, error)

    async def close(self) -> None:
        """Write the rest and close the segment."""
        await self.flush()
        with self._writing:
            self._close_segment()

    def _next_batch(self) -> tuple[Batch, list[Any]]:
        until_us, queue = to_micros(self._clock.now()), self._queue
        batch = Batch(self._writer, self._since_us, until_us, self._requests, self._served, self._sampled, self._dropped, [])
        self._queue, self._since_us = [], until_us
        self._requests = self._served = self._sampled = self._dropped = 0
        return batch, queue

    def _write(self, batch: Batch, queue: Sequence[Any]) -> None:
        with self._writing:
            if batch.requests:
                file = self._open_segment(batch.until_us)
                _require_room(self._folder, self._settings.folder_mb)
                file.write(_framed(msgspec.structs.replace(batch, rows=[_logged(*one) for one in queue])))
                file.flush()
                os.fsync(file.fileno())
            if self._segment is not None:
                path, _, begun_us = self._segment
                old = batch.until_us - begun_us >= self._settings.segment_s * 1_000_000
                if old or path.stat().st_size >= self._settings.segment_mb * 1_000_000:
                    self._close_segment()

    def _open_segment(self, now_us: int) -> IO[bytes]:
        if self._segment is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            now_us = self._last_begun_us = max(now_us, self._last_begun_us + 1)  # it tells segments apart
            path = self._folder / f"{self._writer}-{now_us}{OPEN}"
            file = path.open("ab")
            fcntl.flock(file, fcntl.LOCK_EX)
            self._segment = (path, file, now_us)
        return self._segment[1]

    def _close_segment(self) -> None:
        if self._segment is not None:
            path, file, _ = self._segment
            self._segment = None
            path.replace(path.with_suffix(CLOSED))
            file.close()


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


def _framed(batch: Batch) -> bytes:
    body = _encode(batch)
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
        if len(body) < length or crc32(body) != checksum:
            logger.warning("%s is cut or damaged at byte %d; what was before it is kept", path.name, start)
            return
        yield _decode(body)
        start += _FRAME.size + length
