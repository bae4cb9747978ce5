"""Both engines in Spark agree with as_of.py on generated histories, in every mode and for every kind of key."""

from collections import Counter
from dataclasses import replace
from itertools import cycle
from random import Random
from typing import Any, Literal

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from penstock.point_in_time.joined import join
from penstock.point_in_time.spine import FrameRows
from tests.point_in_time.engines import committed, counted, lake_in, spine_of, write_history
from tests.point_in_time.histories import MODES, STEP, answers_by_rule, generate
from tests.world import resources_of

pytestmark = pytest.mark.real


@pytest.mark.parametrize(
    ("kind", "zone", "engine"),
    [
        ("composite", "UTC", "sql"),
        ("composite", "Asia/Tokyo", "columnar"),
        ("mixed", "Asia/Tokyo", "sql"),
        ("int", "America/New_York", "sql"),
        ("int", "America/New_York", "columnar"),
    ],
)
def test_an_engine_agrees_with_the_rule(
    spark: Any, kind: str, zone: str, engine: Literal["sql", "columnar"], tmp_path_factory: pytest.TempPathFactory
) -> None:
    compared, ttls = Counter[str](), cycle([None, 6 * STEP, STEP])
    spark.conf.set("spark.sql.session.timeZone", zone)
    spark.conf.set("spark.sql.shuffle.partitions", "1")

    @settings(max_examples=2, phases=[Phase.generate])
    @given(seed=st.integers(2**16, 2**63))
    def agrees(seed: int) -> None:
        random = Random(seed)
        case = committed(generate(random, kind, next(ttls)))
        case = replace(case, history=replace(case.history, marks=case.history.marks[:1]))  # each is four more branches of a plan
        lake = lake_in(tmp_path_factory.mktemp("lake"), seed)
        view = write_history(lake, case, kind, random)
        spine = FrameRows(spark.createDataFrame(spine_of(case, kind)))
        for mode in MODES:
            expected = answers_by_rule(case, mode)
            joined = join(lake, spine, [replace(view, mode=mode)], resources_of(spark), engine)
            rows = replace(joined, plan=replace(joined.plan, tiles=3)).to_spark().toArrow()
            assert counted(rows, kind) == expected, mode
            compared["cases"] += len(case.spine)
            compared["answered"] += sum(n for answer, n in expected.items() if answer[-2:] != (None, None))

    try:
        agrees()
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")
        spark.conf.set("spark.sql.shuffle.partitions", "4")
    assert compared["cases"] >= 2_000
    assert compared["answered"] >= 0.25 * compared["cases"]
