"""The SDK runs inside other people's services: it must bring none of our machinery along."""

import json
import subprocess
import sys

FORBIDDEN = {
    "acsylla",
    "cassandra",
    "dagster",
    "delta",
    "deltalake",
    "great_expectations",
    "numpy",
    "pandas",
    "prometheus_client",
    "pyarrow",
    "pydantic",
    "pyspark",
    "uvicorn",
    "uvloop",
    "yaml",
}

IMPORT = """
import json, sys, time
before = time.process_time()
import penstock.sdk
print(json.dumps([time.process_time() - before, sorted(sys.modules)]))
"""


def test_importing_the_sdk_is_cheap_and_brings_no_spark_dagster_driver_or_server() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    seconds, modules = json.loads(done.stdout)
    assert {name.partition(".")[0] for name in modules} & FORBIDDEN == set()
    assert not [name for name in modules if name.startswith(("penstock.serving", "penstock.online", "penstock.runtime"))]
    # 0.3 s here, of which httpx takes 0.25 (half of that for its command line: rich, click, pygments)
    assert seconds < 1.0
