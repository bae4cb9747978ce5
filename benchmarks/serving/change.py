"""Registry, pointers and workers change under load: whether a request fails, and whether an answer mixes two states.

    python -m benchmarks.serving.change [--rounds 3] [--rate 200]

A fill of generation g holds the number g everywhere, so an answer says of each value which generation it is of.
"""

import asyncio
import json
import os
import random
import signal
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import psutil
import typer
import uvloop
from rich.console import Console

from benchmarks.serving.items import Writer, connected, point
from benchmarks.serving.load import Heard, Load, Plan
from benchmarks.serving.processes import gateway
from benchmarks.serving.run import project
from penstock.config import Settings
from penstock.errors import RequestError
from penstock.runtime.node_status import cassandra_endpoint
from penstock.runtime.nodes import node_down, node_up
from penstock.sdk import AsyncFeatureClient
from penstock.serving.access import local_key

KEYS = 1_000
PER_REQUEST = 5
CHOICES = (("number", "again"), ("number",))
screen = Console(stderr=True)


@dataclass
class Seen:
    """What callers saw.

    Args:
        generations: answers by the generation they say they are of.
        layouts: answers by how many features they have.
        failed: requests without an answer of 200, by status.
        mixed: answers with a value of another generation, or with other features than they say.
        changes: what was changed, how many times.
        client_failed: requests of the SDK that raised, which also saw workers killed.
    """

    generations: Counter[int] = field(default_factory=Counter)
    layouts: Counter[int] = field(default_factory=Counter)
    failed: Counter[int] = field(default_factory=Counter)
    mixed: int = 0
    changes: Counter[str] = field(default_factory=Counter)
    client_answers: int = 0
    client_failed: Counter[str] = field(default_factory=Counter)

    def hear(self, heard: Heard) -> None:
        """Take down one answer."""
        if heard.status != 200:
            self.failed[heard.status] += 1
            return
        answer = json.loads(heard.body)
        generations = {view["generation"] for view in answer["views"]}
        names = answer["features"]
        self.generations[min(generations)] += 1
        self.layouts[len(names)] += 1
        values = {value for row in answer["rows"] for value in row["values"]}
        right = len(generations) == 1 and values == generations and all(len(row["values"]) == len(names) for row in answer["rows"])
        self.mixed += not right


async def change(
    settings: Settings, contact_points: Sequence[str], port: int, *, rounds: int, rate: float, pause_s: float, kills: bool = True
) -> Seen:
    """Serve two fills with two workers, and change everything `rounds` times."""
    seen = Seen()
    async with connected(settings, contact_points, port) as store:
        writer = Writer(store, KEYS)
        for generation in (1, 2):
            await writer.fill(generation, generation)
        await point(store)
        load = Load(_plan(settings, rate), seen.hear)  # mints the key: a gateway that runs would see it a second later
        with gateway(settings, GATEWAY__WORKERS="2") as process:
            loading = asyncio.create_task(load.run())
            supervisor = psutil.Process(process.pid)
            try:
                for n in range(rounds):
                    await asyncio.sleep(pause_s)
                    await point(store, 2 - n % 2, CHOICES[0])
                    seen.changes["pointers"] += 1
                    await asyncio.sleep(pause_s)
                    await point(store, 2 - n % 2, CHOICES[1 - n % 2])
                    seen.changes["registry"] += 1
                    await asyncio.sleep(pause_s)
                    before = await _workers(supervisor)
                    os.kill(process.pid, signal.SIGHUP)
                    await _replaced(supervisor, before, all_of_them=True)
                    seen.changes["reload"] += 1
                    before = await _workers(supervisor)
                    os.kill(min(before), signal.SIGTERM)
                    await _replaced(supervisor, before, all_of_them=False)
                    seen.changes["worker ended"] += 1
            finally:
                load.stop = True
                await loading
            if kills:
                await _kill_under_clients(settings, supervisor, seen, rounds)
    return seen


def _plan(settings: Settings, rate: float) -> Plan:
    numbers = random.Random(2)
    bodies = [
        json.dumps({"service": "both", "entities": [{"item": key} for key in numbers.sample(range(KEYS), PER_REQUEST)]}) for _ in range(300)
    ]
    return Plan(
        host="127.0.0.1",
        port=settings.gateway.port,
        path="/v1/features",
        headers={"authorization": f"Bearer {local_key(settings)}", "content-type": "application/json"},
        bodies=bodies,
        connections=16,
        warm_s=0,
        measure_s=3600,
        rate=rate,
    )


async def _workers(supervisor: psutil.Process) -> set[int]:
    """The processes of the workers: two, once all is calm. Python's resource tracker is a child too."""
    while True:
        with suppress(psutil.Error):  # one ends as it is looked at
            found = {child.pid for child in supervisor.children() if "spawn_main" in " ".join(child.cmdline())}
            if len(found) == 2:
                return found
        await asyncio.sleep(0.05)


async def _replaced(supervisor: psutil.Process, before: set[int], *, all_of_them: bool) -> None:
    while True:
        now = await _workers(supervisor)
        if not now & before if all_of_them else now != before:
            return
        await asyncio.sleep(0.05)


async def _kill_under_clients(settings: Settings, supervisor: psutil.Process, seen: Seen, rounds: int) -> None:
    """Kill workers while SDK clients ask: what was lost with its connection is asked again."""
    done = asyncio.Event()

    async def ask(client: AsyncFeatureClient) -> None:
        while not done.is_set():
            try:
                await client.features("both", [{"item": 1}, {"item": 2}])
                seen.client_answers += 1
            except RequestError as error:
                seen.client_failed[type(error).__name__] += 1
            await asyncio.sleep(0.02)

    url = f"http://127.0.0.1:{settings.gateway.port}"
    async with AsyncFeatureClient(url, api_key=local_key(settings), timeout_s=5) as client:
        asking = [asyncio.create_task(ask(client)) for _ in range(4)]
        for _ in range(rounds):
            await asyncio.sleep(0.5)
            before = await _workers(supervisor)
            os.kill(max(before), signal.SIGKILL)
            await _replaced(supervisor, before, all_of_them=False)
            seen.changes["worker killed"] += 1
        done.set()
        await asyncio.gather(*asking)


def main(
    folder: Annotated[Path, typer.Option(help="where the node is kept")] = Path("var/bench/serving"),
    rounds: Annotated[int, typer.Option(help="how many times everything changes")] = 3,
    rate: Annotated[float, typer.Option(help="requests a second")] = 200.0,
) -> None:
    """Let it happen, and print what callers saw."""
    settings = project(folder.resolve())
    node_up(settings)
    try:
        seen = uvloop.run(change(settings, *cassandra_endpoint(settings), rounds=rounds, rate=rate, pause_s=2.5))
    finally:
        node_down(settings)
    answers = sum(seen.generations.values())
    screen.print(f"{dict(seen.changes)} under {answers:,} answers: failed {dict(seen.failed)}, mixed {seen.mixed}")
    screen.print(f"by generation {dict(seen.generations)}, by number of features {dict(seen.layouts)}")
    screen.print(f"SDK while workers were killed: {seen.client_answers:,} answers, failed {dict(seen.client_failed)}")


if __name__ == "__main__":
    typer.run(main)
