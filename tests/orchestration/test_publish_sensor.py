"""How the sensor waits: after failures, and for what is still being computed."""

import dagster as dg

from penstock.orchestration.publish_sensor import LONGEST_WAIT_S, is_computing, wait_after_failures


def test_the_wait_doubles_with_each_failure_in_a_row_and_ends_with_a_success() -> None:
    assert wait_after_failures([], 15) == (0, 0.0)
    assert wait_after_failures([(False, 100.0), (True, 90.0)], 15) == (0, 0.0)
    assert wait_after_failures([(True, 100.0), (False, 90.0)], 15) == (1, 130.0)  # 15 * 2
    assert wait_after_failures([(True, 200.0), (True, 100.0), (False, 90.0)], 15) == (2, 260.0)  # 15 * 4
    assert wait_after_failures([(True, 200.0)] * 20, 15) == (20, 200.0 + LONGEST_WAIT_S)


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
