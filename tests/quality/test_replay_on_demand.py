"""The token of an answer with on-demand views names what was read; replay computes that again, and says what it does not."""

import asyncio
from pathlib import Path

from penstock.clock import to_micros
from penstock.config import GatewaySettings
from penstock.contract import minutes
from penstock.offline.lake import Lake
from penstock.offline.registry_log import log_snapshot
from penstock.quality.replay import replay
from penstock.registry.snapshot import compile_snapshot
from penstock.serving.cache import NearCache
from penstock.serving.functions import Functions
from penstock.serving.lookup import look_up
from penstock.serving.plan import Planner
from penstock.serving.replay_token import token_of
from penstock.serving.state import StateKeeper
from tests.on_demand_world import FUNCTIONS, HISTORY, NOON, PROJECT, Row, offline, online
from tests.point_in_time.tables import CREATED, publish_at

UA: Row = ("UA", NOON - minutes(15), [12.5, 1, 4, NOON, "EWR", 0.5])


def test_what_was_read_is_equal_and_what_was_computed_is_named(tmp_path: Path) -> None:
    async def served() -> str:
        store = await online([UA], attempt=to_micros(CREATED))
        keeper = StateKeeper(store, functions=Functions(FUNCTIONS))
        assert await keeper.refresh()
        assert keeper.state is not None
        plan = Planner().plan(keeper.state, "trips", ["trip__share"])
        entities = [{"carrier": "UA", "planned": 60, "departs": "2026-03-03T18:30:00Z", "base": "EWR"}]
        answer = await look_up(plan, NearCache(store, 0), to_micros(NOON), entities, GatewaySettings())
        assert answer.computed[0][0].values == (0.25,)
        return token_of(answer)

    token = asyncio.run(served())
    lake = Lake(str(tmp_path))
    offline(lake, [UA])
    publish_at(lake, HISTORY, NOON.date(), CREATED, NOON - minutes(5))
    log_snapshot(lake, compile_snapshot(PROJECT), NOON)
    done = replay(lake, token)
    assert done.equal
    assert done.rows()[0]["history__flights"] == 4
    assert set(done.rows()[0]) == {f"history__{name}" for name in HISTORY.feature_names}
    assert done.on_demand == ("trip@1", "best@1")
