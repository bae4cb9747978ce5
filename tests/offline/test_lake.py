"""Reading a lake without a JVM."""

import subprocess
import sys
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, write_deltalake

from penstock.offline.lake import Lake, rows_where

READ = "import sys; from penstock.offline.lake import Lake; print(Lake(sys.argv[1]).dataset('log/numbers').to_table().num_rows)"


def test_a_process_that_has_read_a_table_of_many_files_ends_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "a lake, ümlaut"
    lake = Lake(str(folder))
    for n in range(12):
        write_deltalake(lake.prepare("log/numbers"), pa.table({"n": list(range(1000)), "of": [str(n)] * 1000}), mode="append")
    # Through deltalake's own files most of these were aborted: "terminate called without an active exception".
    for _ in range(5):
        ended = subprocess.run([sys.executable, "-c", READ, str(folder)], capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "12000\n", "")


def test_rows_are_found_in_files_that_were_altered_in_place(tmp_path: Path) -> None:
    days = [date(2026, 3, n) for n in (1, 2)]
    for n, day in enumerate(days):
        names = [f"k{n}{m}" for m in range(50)]
        write_deltalake(str(tmp_path), pa.table({"k": names, "day": [day] * 50, "n": list(range(50))}), mode="append", partition_by=["day"])
    DeltaTable(str(tmp_path)).delete("k = 'k03'")  # as a person's rows are deleted
    dataset = Lake(str(tmp_path.parent)).dataset(tmp_path.name)
    assert pa.string_view() in [kind for fragment in dataset.get_fragments() for kind in fragment.physical_schema.types]
    where = pc.field("k").isin(["k03", "k04", "k13"]) & (pc.field("day") < pa.scalar(date(2026, 3, 3)))
    found = rows_where(dataset, where, ["n", "day"]).sort_by([("day", "ascending"), ("n", "ascending")])
    assert found.to_pylist() == [{"n": 4, "day": days[0]}, {"n": 3, "day": days[1]}]
    assert rows_where(dataset, pc.field("k") == "k04").to_pylist() == [{"k": "k04", "day": days[0], "n": 4}]
