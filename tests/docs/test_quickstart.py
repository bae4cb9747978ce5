"""The quickstart's code is what it says: its blocks run, in order, as one would paste them."""

import ast
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.config import load_settings
from penstock.orchestration.control import Control, until
from penstock.orchestration.stack import Stack
from tests.project import free_port, penstock

ROOT = Path(__file__).parent.parent.parent
FENCE = re.compile(r"^```python( requires-server)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
AT_MOST = timedelta(minutes=5)
SECRET = "planted-7f3a91c2"


def blocks(page: Path) -> list[tuple[bool, str]]:
    """(needs a server, code) of each block of a page."""
    return [(bool(server), code) for server, code in FENCE.findall(page.read_text())]


class Shop:
    """The project that the quickstart makes, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.data, self.view, self.ask, self.look, self.refused = [code for _, code in blocks(ROOT / "docs" / "quickstart.md")]
        self.folder = folder / "shop"
        self._run(folder, "-m", "penstock.cli.main", "init", "shop")
        self.python(self.data)
        (self.folder / "feature_assets" / "spending.py").write_text(self.view)

    def python(self, code: str) -> str:
        """What a block prints when it runs in the project's folder."""
        return self._run(self.folder, "-c", code)

    def penstock(self, *arguments: str) -> str:
        """What a command prints."""
        return self._run(self.folder, "-m", "penstock.cli.main", *arguments)

    def _run(self, folder: Path, *arguments: str) -> str:
        done = self.process(folder, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def process(self, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
        env = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"}
        return subprocess.run([sys.executable, *arguments], cwd=folder, env=env, capture_output=True, text=True, check=False)

    @contextmanager
    def running(self) -> Iterator[tuple[Control, str, str]]:
        """The project under `penstock dev`, on ports of its own: Dagster, and the gateway's address and key."""
        local = self.folder / "conf" / "local.yaml"
        with local.open("a") as out:
            out.write(
                f"  port: {free_port()}\n  publish_every_s: 2\ncassandra: {{port: {free_port()}}}\ngateway: {{port: {free_port()}}}\n"
            )
        with Stack(load_settings(self.folder)) as stack:
            stack.cassandra()
            control = stack.dagster()
            yield control, *stack.gateway()


def test_the_project_that_init_writes_is_right_and_takes_the_quickstarts_view(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    assert len(shop.view.splitlines()) <= 40
    assert "spending@1" in shop.penstock("registry", "list")
    assert shop._run(shop.folder, "-m", "pytest", "-q").startswith("..")
    assert json.loads(shop.penstock("registry", "show"))["sources"][0]["table"] == ["parquet", "data/orders.parquet"]
    assert "above the total of 0:30:00" in shop.python(shop.refused)
    again = subprocess.run(penstock("init", "shop"), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (again.returncode, "is there already and not empty" in again.stderr.replace("\n", " ")) == (1, True)


def test_the_flights_project_that_init_writes_is_right(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "fly")}
    for folder, command in (
        (tmp_path, ["-m", "penstock.cli.main", "init", "fly", "--template", "flights"]),
        (tmp_path / "fly", ["-m", "pytest", "-q"]),
    ):
        done = subprocess.run([sys.executable, *command], cwd=folder, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "fly" / "var").exists()


@pytest.mark.real
def test_a_view_over_a_table_of_ones_own_is_served_previewed_and_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_DB_PASSWORD", SECRET)
    shop = Shop(tmp_path)
    first = (datetime.now(UTC) - timedelta(days=7)).date().isoformat()
    with shop.running() as (control, url, key):
        assert "spending@1: 8 day(s) computed" in shop.penstock("backfill", "spending", first)
        until(
            lambda: [run.status for run in control.runs_of("publish_online")], lambda s: "SUCCESS" in s, at_most=AT_MOST, what="publication"
        )
        ask = shop.ask.replace("http://127.0.0.1:8090", url).replace("penstock_...", key)
        # The gateway looks each second what is served; until then the service is not known to it.
        until(lambda: shop.process(shop.folder, "-c", ask), lambda done: done.returncode == 0, at_most=AT_MOST, what="the service")
        answer = dict(line.split(" ", 1) for line in shop.python(ask).splitlines())
        assert all(line.split()[1] == "PRESENT" for line in answer.values())
        # c1's orders of the last 7 days: every seventh hour one, so 24 of 168 hours; the newest is an hour old
        assert 23 <= int(answer["spending__orders_7d"].split()[0]) <= 24
        assert "is computed by today's code and from the newest source rows" in shop.penstock("backfill", "spending", first)
        shop.python(CORRECTION)
        # The sensor finds the correction and computes what it reaches; what changed is published: nobody is asked.
        until(lambda: answers(shop, ask), lambda now: now["spending__amount_sum_7d"] > 1000.0, at_most=AT_MOST, what="the repair")
        told = json.loads(shop.penstock("status", "--json"))
        assert told["problems"] == []
        assert {(one["state"], one["stale_by_code"]) for one in told["partitions"]} == {("published", False)}
        assert len(told["partitions"]) == 8
        assert "■■■■■■■■" in shop.penstock("status")
        require_fresh(json.loads(shop.penstock("freshness", "--json")))
        assert shop.penstock("repair", "plan").strip() == "every computed partition is of the newest source rows"
    assert "c1" in shop.python(shop.look)
    query = "SELECT customer, event_time, amount AS label FROM {orders}"
    built = shop.penstock("training-set", "build", "baskets", "--service", "basket", "--split", "hash:0.2:customer", "--query", query)
    assert "rows      200" in built
    assert "hash:0.2:customer" in shop.penstock("training-set", "list", "baskets")
    assert "no difference" in shop.penstock("registry", "diff")
    assert files_that_hold(shop.folder, SECRET) == []
    assert files_that_hold(shop.folder, key) == ["var/local.key"]
    shown = shop.penstock("registry", "show")
    doctor = subprocess.run(penstock("doctor"), cwd=shop.folder, capture_output=True, text=True, check=False)
    assert "Cassandra" in doctor.stdout
    assert SECRET not in shown + doctor.stdout + doctor.stderr + repr(load_settings(shop.folder))


def require_fresh(told: dict[str, Any]) -> None:
    """The view is within its SLA, the stages are told, and a read through the gateway is what the lake has."""
    assert told["problems"] == []
    ((view,), (read,)) = told["views"], told["canaries"]
    assert all(stage["lag"] is not None for stage in view["stages"])
    assert set(read["complete_until"]) == {"spending@1"}
    assert read["problems"] == []


CORRECTION = """
import pandas as pd
orders = pd.read_parquet("data/orders.parquet")
orders.loc[orders.customer == "c1", "amount"] *= 100
orders.to_parquet("data/orders.parquet")
"""


def answers(shop: Shop, ask: str) -> dict[str, float]:
    """Feature → value, as the quickstart asks for them."""
    lines = (line.split(" ")[:2] for line in shop.python(ask).splitlines())
    return {name: float(value) for name, value in lines}


def files_that_hold(folder: Path, secret: str) -> list[str]:
    """Lake, logs, Dagster's storage and run configurations, the node's data: all that a project leaves on disk."""
    looked_at = [path for path in folder.rglob("*") if path.is_file()]
    assert {"feature_assets", "var"} <= {path.relative_to(folder).parts[0] for path in looked_at}
    assert any(path.name == "dagster.log" for path in looked_at)
    return [str(path.relative_to(folder)) for path in looked_at if secret.encode() in path.read_bytes()]


@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md"])
def test_every_block_parses_and_imports_what_exists(page: str) -> None:
    found = blocks(ROOT / page)
    assert len(found) == (ROOT / page).read_text().count("```python") > 0, "a block's fence is not read"
    for _, code in found:
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("penstock"):
                module = importlib.import_module(node.module or "")
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)
