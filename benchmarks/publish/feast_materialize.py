"""Feast's own materialization, run by the peers' Python:  -m benchmarks.publish.feast_materialize REPO CQL_PORT VIEWS PARQUET NODE_PID

Prints seconds, and CPU-seconds of this process and of the node; imports, registry and tables are made before.
"""

import asyncio
import json
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, process_time, sleep

import psutil

from benchmarks.serving.feast_fill import apply, keyspace


def main(repo: Path, port: int, views: int, source_file: str, node_pid: int) -> None:
    shutil.rmtree(repo, ignore_errors=True)
    asyncio.run(keyspace(port))
    store = apply(repo, port, views, source_file)
    node = psutil.Process(node_pid)
    begun, cpu, node_cpu = monotonic(), process_time(), sum(node.cpu_times()[:2])
    store.materialize(datetime.now(UTC) - timedelta(days=3650), datetime.now(UTC))
    seconds, cpu = monotonic() - begun, process_time() - cpu
    sleep(2)  # as for every path
    print(json.dumps({"seconds": seconds, "cpu": cpu, "node_cpu": sum(node.cpu_times()[:2]) - node_cpu}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
