"""`penstock publications` and `penstock online rebuild` as people type them."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from typer.testing import CliRunner, Result

import penstock
from penstock.cli import online, publications
from penstock.clock import FixedClock, to_micros
from penstock.config import Settings
from penstock.contract import FeatureService
from penstock.errors import PublicationError
from penstock.offline.logs import copy_publications
from penstock.online.codec import encode_key, encode_value, write_token
from penstock.online.ledger import Publication
from penstock.online.store import OnlineStore, Write
from penstock.publication.encode import Target
from penstock.publication.held_store import with_store
from penstock.registry.project import Project
from penstock.store import Store
from tests.world import MONDAY, World, view_of_orders

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def typed(cli: Any, *arguments: str) -> Result:
    done = CliRunner().invoke(cli, arguments, env={"COLUMNS": "200"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def row(day: int, at: datetime, view: str = "orders", attempt: int = 7) -> Publication:
    return Publication(
        view=view, version=1, generation=1, partition=(NOON + day * DAY).date(), attempt=attempt, complete_until_us=0,
        readable_at_us=to_micros(at), run_id=f"run at {at:%H:%M}", keys=1200,
    )  # fmt: skip


def test_each_publication_is_a_line_with_its_days_as_ranges_the_newest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(Settings(root=tmp_path), Project("shop", (), ()), FixedClock(NOON))
    monkeypatch.setattr(penstock, "open", lambda: store, raising=False)
    assert "nothing was published yet" in typed(publications.cli).stderr
    later = NOON + timedelta(hours=1)
    copy_publications(store.lake, [*(row(day, NOON) for day in (0, 1, 2, 4)), row(2, later, attempt=9), row(2, later, view="visits")])
    lines = [line.split("│") for line in typed(publications.cli).stdout.splitlines() if "run at" in line]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert cells == [
        ["2026-03-02 13:00:00", "visits@1", "2026-03-04", "1", "1,200", "run at 13:00"],
        ["2026-03-02 13:00:00", "orders@1", "2026-03-04", "1", "1,200", "run at 13:00"],
        ["2026-03-02 12:00:00", "orders@1", "2026-03-02 to 2026-03-04, 2026-03-06", "1", "1,200", "run at 12:00"],
    ]
    (only,) = json.loads(typed(publications.cli, "--view", "orders", "--limit", "1", "--json").stdout)
    assert (only["readable_at"], only["attempts"], only["keys"]) == ("2026-03-02T13:00:00Z", {"2026-03-04": 9}, 1200)
    assert "nothing of orders@2 was published yet" in typed(publications.cli, "--view", "orders@2").stderr


@pytest.fixture
def shop(
    spark: Any, cassandra_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Store:
    """A project with one view that was published, in a keyspace of its own."""
    view = view_of_orders(name=f"typed_{crc32(request.node.name.encode())}")
    service = FeatureService("spending", views=[view], owner="ml")
    settings = cassandra_settings.model_copy(
        update={
            "lake": cassandra_settings.lake.model_copy(update={"path": str(tmp_path)}),
            "cassandra": cassandra_settings.cassandra.model_copy(update={"keyspace": "penstock_typed"}),
        }
    )
    store = Store(settings, Project("shop", (view,), (service,)), FixedClock(NOON))
    world = World(spark, store.lake, FixedClock(NOON), view)
    world.place("ann", 10.0, MONDAY + timedelta(hours=9))
    world.place("bob", 20.0, MONDAY + timedelta(hours=9))
    world.compute(NOON.date())
    store.publish(view, [NOON.date()], run_id="publish")
    monkeypatch.setattr(penstock, "open", lambda: store, raising=False)
    return store


@pytest.mark.real
def test_values_are_compared_a_wrong_one_is_named_and_a_lost_store_is_filled(shop: Store) -> None:
    (view,) = shop.project.views
    done = typed(publications.cli, "verify", "--seed", "3")
    assert (done.exit_code, done.stdout) == (0, f"{view.ref}: equal, 2 of 2 keys\nseed 3\n")
    assert typed(publications.cli, "copy").stdout == f"{view.ref}: both are complete\n"
    assert f"{view.ref}: left alone, the store's ledger has all" in typed(online.cli, "rebuild").stdout

    target = Target.of(view, 1)
    wrong = encode_value(target.schema, to_micros(NOON), 1, [99.0])

    async def lose(store: Any) -> None:
        for table in (f"online_{view.entity.name}", "ledger", "services"):
            await store._session.query(f"TRUNCATE {store._keyspace}.{table}")

    async def spoil(store: OnlineStore) -> None:
        await store.prepare([target.entity])
        await store.write(
            target.entity, [Write(encode_key(target.join_keys, ["bob"]), target.slot, write_token(to_micros(NOON), 0), wrong)]
        )

    with_store(shop.connect(), spoil)
    done = typed(publications.cli, "verify")
    assert done.exit_code == 1
    assert f"{view.ref}: 1 of 2 keys differ" in done.stdout
    assert "customer=bob" in done.stdout
    assert "amount=20.0" in done.stdout
    assert "amount=99.0" in done.stdout

    with_store(shop.connect(), lose)
    with pytest.raises(PublicationError, match="2 of 2 keys do not hold what 1 ledger row"):
        typed(publications.cli, "copy")
    said = typed(online.cli, "rebuild", view.name).stdout
    assert "2 equal" in said
    assert "spending: served" in said
    assert typed(publications.cli, "verify").exit_code == 0
    assert [pointers.service for pointers in with_store(shop.connect(), lambda store: store.pointers())] == ["spending"]
