"""How the sensor waits after failures."""

from penstock.orchestration.publish_sensor import LONGEST_WAIT_S, wait_after_failures


def test_the_wait_doubles_with_each_failure_in_a_row_and_ends_with_a_success() -> None:
    assert wait_after_failures([], 15) == (0, 0.0)
    assert wait_after_failures([(False, 100.0), (True, 90.0)], 15) == (0, 0.0)
    assert wait_after_failures([(True, 100.0), (False, 90.0)], 15) == (1, 130.0)  # 15 * 2
    assert wait_after_failures([(True, 200.0), (True, 100.0), (False, 90.0)], 15) == (2, 260.0)  # 15 * 4
    assert wait_after_failures([(True, 200.0)] * 20, 15) == (20, 200.0 + LONGEST_WAIT_S)
