"""One key takes 30 % of three times the usual load: what callers see, and how often the store is asked for that key.

    python -m benchmarks.serving.hot [--usual 150] [--seconds 20]

The view lets a cache add one second of age; each answer is held against what had been written one second before it was asked.
"""

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console

from benchmarks.serving.counted import counted_gateway
from benchmarks.serving.items import FRESH_S, HELD, Writer, connected, point
from benchmarks.serving.load import Heard, Load, Plan
from benchmarks.serving.run import project
from penstock.config import Settings
from penstock.runtime.node_status import cassandra_endpoint
from penstock.runtime.nodes import node_down, node_up
from penstock.serving.access import local_key

KEYS = 5_000
HOT = 17
_SHARE = 0.3
screen = Console(stderr=True)


@dataclass
class Seen:
    """What callers and the store saw.

    Args:
        hot_ms, other_ms: latencies of requests for the hot key, and for others, from when they were due.
        failed: requests without an answer of 200.
        old: answers older than the cache may be.
        reads: moments at which the store was asked for the hot key, in seconds.
    """

    hot_ms: list[float] = field(default_factory=list)
    other_ms: list[float] = field(default_factory=list)
    failed: int = 0
    old: int = 0
    reads: list[float] = field(default_factory=list)

    def closest_s(self) -> float:
        """The shortest time between two reads of the hot key."""
        return min((late - early for early, late in zip(self.reads, self.reads[1:], strict=False)), default=float("inf"))


async def heat(settings: Settings, contact_points: Sequence[str], port: int, *, usual: float, seconds: float) -> Seen:
    """Three times the `usual` rate, for so many seconds."""
    seen = Seen()
    async with connected(settings, contact_points, port) as store:
        writer = Writer(store, KEYS)
        await writer.fill(0)
        await point(store)
        numbers = random.Random(3)
        asked = [HOT if numbers.random() < _SHARE else numbers.randrange(KEYS) for _ in range(20_000)]
        plan = Plan(
            host="127.0.0.1",
            port=settings.gateway.port,
            path="/v1/features",
            headers={"authorization": f"Bearer {local_key(settings)}", "content-type": "application/json"},
            bodies=[json.dumps({"service": HELD.name, "entities": [{"item": key}]}) for key in asked],
            connections=64,
            warm_s=0,
            measure_s=seconds,
            rate=3 * usual,
        )

        def hear(heard: Heard) -> None:
            key = asked[heard.number]
            (seen.hot_ms if key == HOT else seen.other_ms).append(heard.ms)
            if heard.status != 200:
                seen.failed += 1
                return
            number = json.loads(heard.body)["rows"][0]["values"][0]
            seen.old += number < writer.at_least(key, heard.sent - FRESH_S)

        with counted_gateway(settings, contact_points, port, HOT) as reads:
            writing = asyncio.create_task(writer.forever())
            try:
                await Load(plan, hear).run()
            finally:
                writing.cancel()
        seen.reads = reads
    return seen


def main(
    folder: Annotated[Path, typer.Option(help="where the node is kept")] = Path("var/bench/serving"),
    usual: Annotated[float, typer.Option(help="requests a second, a third of what is sent")] = 150.0,
    seconds: Annotated[float, typer.Option(help="how long")] = 20.0,
) -> None:
    """Let it happen, and print what was seen."""
    settings = project(folder.resolve())
    node_up(settings)
    try:
        seen = uvloop.run(heat(settings, *cassandra_endpoint(settings), usual=usual, seconds=seconds))
    finally:
        node_down(settings)
    for name, ms in (("the hot key", sorted(seen.hot_ms)), ("all others", sorted(seen.other_ms))):
        at = [f"p{share} {ms[len(ms) * share // 100]:.1f}" for share in (50, 95, 99)]
        screen.print(f"{name}: {len(ms):,} requests, {', '.join(at)} ms")
    screen.print(f"failed {seen.failed}, older than {FRESH_S} s when asked: {seen.old}")
    screen.print(
        f"the store was asked for the hot key {len(seen.reads)} times in {seconds:g} s, never twice within {seen.closest_s():.2f} s"
    )


if __name__ == "__main__":
    typer.run(main)
