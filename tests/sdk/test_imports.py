"""The SDK runs inside other people's services: it must bring none of our machinery along."""

import json
import subprocess
import sys

import pytest

import penstock

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

OWN = {"penstock", "penstock.clock", "penstock.errors", "penstock.sdk"}

IMPORT = """
import json, sys
import penstock.sdk
print(json.dumps(sorted(sys.modules)))
"""


def test_importing_the_sdk_brings_no_spark_dagster_driver_or_server_and_of_ours_only_what_it_needs() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    modules = json.loads(done.stdout)
    assert {name.partition(".")[0] for name in modules} & FORBIDDEN == set()
    ours = {".".join(name.split(".")[:2]) for name in modules if name.partition(".")[0] == "penstock"}
    assert ours == OWN


def test_what_users_take_from_the_package_is_there() -> None:
    for name in penstock.__all__:
        assert getattr(penstock, name).__module__.startswith("penstock.")
    with pytest.raises(AttributeError, match="no attribute 'feature_store'"):
        _ = penstock.feature_store
