"""The columnar engine on real Delta files agrees with as_of.py on generated histories; it needs no Spark for that."""

from collections import Counter
from itertools import cycle
from pathlib import Path
from random import Random

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from penstock.point_in_time import kernel
from tests.point_in_time.engines import columnar, committed, counted, lake_in, spine_of, write_history
from tests.point_in_time.histories import KEYS, MODES, STEP, answers_by_rule, generate


@pytest.mark.parametrize("kind", KEYS)
def test_the_columnar_engine_agrees_with_the_rule(kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    seen, ttls = Counter[str](), cycle([None, 6 * STEP, STEP])

    @settings(max_examples=12, phases=[Phase.generate])
    @given(seed=st.integers(2**16, 2**63))
    def agrees(seed: int) -> None:
        random = Random(seed)
        case = committed(generate(random, kind, next(ttls)))
        lake = lake_in(tmp_path_factory.mktemp("lake"), seed)
        view = write_history(lake, case, kind, random)
        for mode in MODES:
            expected = answers_by_rule(case, mode)
            # A task of 20 rows has to let keys take turns, and to leave out rows that can no longer be used.
            rows = columnar(lake, view, spine_of(case, kind), mode, tiles=random.choice([1, 3]), task_bytes=random.choice([10**9, 1600]))
            assert counted(rows, kind) == expected, mode
            seen["cases"] += len(case.spine)
            seen["answered"] += sum(n for answer, n in expected.items() if answer[-2:] != (None, None))

    agrees()
    assert seen["cases"] >= 10_000
    assert seen["answered"] >= 0.25 * seen["cases"]


def test_a_key_whose_rows_end_often_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_STEPS_DOWN", 0)  # every answer that ended goes to the heap
    for seed in range(8):
        random = Random(seed)
        case = committed(generate(random, "int", None))
        lake = lake_in(tmp_path, seed)
        view = write_history(lake, case, "int", random)
        for mode in MODES:
            assert counted(columnar(lake, view, spine_of(case, "int"), mode), "int") == answers_by_rule(case, mode)
