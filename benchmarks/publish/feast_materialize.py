"""Feast's own materialization, run by the peers' Python:  -m benchmarks.publish.feast_materialize REPO CQL_PORT VIEWS PARQUET

Prints seconds and CPU-seconds of this process; its tables are emptied before by being made anew.
"""

import asyncio
import json
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, process_time

from benchmarks.serving.feast_fill import apply, keyspace


def main(repo: Path, port: int, views: int, source_file: str) -> None:
    shutil.rmtree(repo, ignore_errors=True)
    asyncio.run(keyspace(port))
    store = apply(repo, port, views, source_file)
    begun, cpu = monotonic(), process_time()
    store.materialize(datetime.now(UTC) - timedelta(days=3650), datetime.now(UTC))
    print(json.dumps({"seconds": monotonic() - begun, "cpu": process_time() - cpu}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
