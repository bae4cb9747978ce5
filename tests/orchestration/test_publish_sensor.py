"""How the sensor waits: after failures, and for what is still being computed."""

from types import SimpleNamespace
from typing import Any

import dagster as dg

from penstock.config import Settings
from penstock.orchestration.publish_sensor import LONGEST_WAIT_S, is_computing, publish_sensor, wait_after_failures
from penstock.publication.due import Due
from penstock.registry.project import Project
from tests.world import MONDAY, view_of_orders


def test_the_wait_doubles_with_each_failure_in_a_row_and_ends_with_a_success() -> None:
    assert wait_after_failures([], 15) == (0, 0.0)
    assert wait_after_failures([(False, 100.0), (True, 90.0)], 15) == (0, 0.0)
    assert wait_after_failures([(True, 100.0), (False, 90.0)], 15) == (1, 130.0)  # 15 * 2
    assert wait_after_failures([(True, 200.0), (True, 100.0), (False, 90.0)], 15) == (2, 260.0)  # 15 * 4
    assert wait_after_failures([(True, 200.0)] * 20, 15) == (20, 200.0 + LONGEST_WAIT_S)


def test_what_a_run_committed_waits_for_its_rest_and_for_no_other_run() -> None:
    view = view_of_orders()
    ready = Due({MONDAY.date(): 1}, {}, frozenset({"a" * 8, ""}))
    settings = Settings()
    store: Any = SimpleNamespace(settings=settings, project=Project("shop", (view,), ()), due=lambda _: ready)
    sensor = publish_sensor(store, "publish_online")

    def tick(instance: dg.DagsterInstance, cursor: str | None = None) -> Any:
        return sensor.evaluate_tick(dg.build_sensor_context(instance=instance, cursor=cursor))

    with dg.instance_for_test() as instance:
        instance.add_run(dg.DagsterRun("refresh", run_id="b" * 8, status=dg.DagsterRunStatus.STARTED))
        assert len(tick(instance).run_requests) == 1
        instance.add_run(dg.DagsterRun("refresh", run_id="a" * 8, status=dg.DagsterRunStatus.STARTED))
        waiting = tick(instance)
        assert waiting.skip_message == "1 run(s) wait for the rest of what is being computed"
        assert tick(instance, waiting.cursor).cursor == waiting.cursor  # it waits from then on, and not for ever
        asked = tick(instance, "1.0")
        assert len(asked.run_requests) == 1
        assert tick(instance, asked.cursor).cursor not in (waiting.cursor, asked.cursor)  # the wait before is forgotten


def test_runs_that_compute_features_are_told_from_others() -> None:
    def answer(job: str, *assets: list[str], status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED) -> bool:
        with dg.instance_for_test() as instance:
            instance.add_run(dg.DagsterRun(job_name=job, status=status, asset_selection=frozenset(map(dg.AssetKey, assets)) or None))
            return is_computing(instance, [dg.DagsterRunStatus.STARTED], "refresh")

    assert answer("refresh")
    assert answer("__ASSET_JOB", ["sources", "orders"], ["features", "spending"])
    assert not answer("__ASSET_JOB", ["sources", "orders"])
    assert not answer("training_basket")
    assert not answer("refresh", status=dg.DagsterRunStatus.SUCCESS)
