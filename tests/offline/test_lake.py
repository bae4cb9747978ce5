"""Reading a lake without a JVM."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
from deltalake import write_deltalake

from penstock.offline.lake import Lake

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
