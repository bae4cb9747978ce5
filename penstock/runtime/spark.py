"""A Spark session with Delta, quiet and in UTC; the only module that reaches below the DataFrame interface."""

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyspark
from pyspark import SparkContext
from pyspark.sql import SparkSession

from penstock.config import ROWS_PER_GROUP, Settings
from penstock.errors import RuntimeSetupError
from penstock.runtime.class_archive import archive_of, empty_folder
from penstock.runtime.jars import delta_jars
from penstock.runtime.java import find_java, shim_home

_LOG_SETTINGS = Path(__file__).with_name("spark_conf") / "log4j2.properties"

# What a DataFrame means must not depend on where it runs: these hold for every master, Spark Connect included.
_MEANING = {
    "spark.sql.session.timeZone": "UTC",
    # Spark's default, INT96, has nanoseconds that Arrow readers take at their word.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    # Without it Spark refuses files that pandas wrote; offline/sources.py makes times of these numbers again.
    "spark.sql.legacy.parquet.nanosAsLong": "true",
}


def spark_session(settings: Settings, app: str = "penstock") -> SparkSession:
    """The process's Spark session, started if none runs.

    A running session is returned as it is: settings that belong to the JVM are read at its start only
    (`stop_session` ends it). The JVM ends with this process, however that ends.

    Args:
        settings: master, memory and jars; `spark.conf` is laid over everything set here.
        app: the application's name.

    Returns:
        A session on `spark.master`, over Spark Connect if that begins with `sc://`: UTC, microsecond
        timestamps, Arrow, ANSI; Delta unless a Connect server has its own.

    Raises:
        RuntimeSetupError: no Java 17, jars not usable, or Spark did not start.
    """
    builder = SparkSession.builder
    if settings.spark.master.startswith("sc://"):
        for key, value in {**_MEANING, **settings.spark.conf}.items():
            builder = builder.config(key, value)
        return _with_small_row_groups(builder.remote(settings.spark.master).appName(app).getOrCreate())
    if SparkContext._active_spark_context is not None:
        return builder.getOrCreate()
    local = settings.spark.master.startswith("local")
    scratch, java = _scratch_folder(), find_java(settings).executable
    for key, value in {**_launch_conf(settings, local, scratch, java), **_MEANING, **settings.spark.conf}.items():
        builder = builder.config(key, value)
    with _environment(_launch_environment(local, java)):
        try:
            return _with_small_row_groups(builder.master(settings.spark.master).appName(app).getOrCreate())
        except Exception as error:
            why = str(error).strip()[:2000]  # asks the JVM, so before it is ended
            stop_session()
            raise RuntimeSetupError(
                f"Spark did not start on '{settings.spark.master}': {why}",
                hint="the lines Spark wrote to stderr say more; check spark.master, spark.driver_memory and spark.conf",
            ) from error


def _with_small_row_groups(session: SparkSession) -> SparkSession:
    # Not at its start, where a name that does not begin with spark is warned of and ignored.
    session.conf.set("parquet.block.row.count.limit", str(ROWS_PER_GROUP))
    return session


def stop_session() -> None:
    """End the session and its JVM; done already is no error. The next `spark_session` starts anew."""
    session = SparkSession.getActiveSession() or SparkSession._instantiatedSession
    if session is not None:
        session.stop()
    elif SparkContext._active_spark_context is not None:
        SparkContext._active_spark_context.stop()
    gateway = SparkContext._gateway
    if gateway is None:
        return
    # pyspark keeps the JVM for the next session, with the memory and the options of this one.
    process = getattr(gateway, "proc", None)
    gateway.shutdown()
    SparkContext._gateway = None
    SparkContext._jvm = None
    if process is not None:
        process.stdin.close()  # the JVM ends when its stdin does
        process.wait()


def _launch_conf(settings: Settings, local: bool, scratch: Path, java: Path) -> dict[str, str]:
    jars = delta_jars(settings)
    archive = archive_of(java, jars) if local else None
    conf = {
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.databricks.delta.snapshotPartitions": "2",  # Delta's default of 50 suits logs a thousand times ours
        "spark.sql.catalogImplementation": "in-memory",
        "spark.sql.shuffle.partitions": str(settings.spark.shuffle_partitions),
        "spark.driver.memory": settings.spark.driver_memory,
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.defaultJavaOptions": _java_options(settings, archive, scratch),  # extraJavaOptions stays the user's
    }
    if local and "spark.driver.extraClassPath" not in settings.spark.conf:
        conf["spark.driver.extraClassPath"] = os.pathsep.join(map(str, jars))  # there is no other process; only these can be archived
    else:
        conf["spark.jars"] = ",".join(map(str, jars))
    if local:
        conf["spark.sql.sources.parallelPartitionDiscovery.threshold"] = "100000"  # files on this machine need no job to be looked at
        conf["spark.driver.defaultJavaOptions"] += f" -Dlog4j2.configurationFile={_LOG_SETTINGS.as_uri()}"
        conf["spark.driver.host"] = "127.0.0.1"
        conf["spark.driver.bindAddress"] = "127.0.0.1"
        conf["spark.sql.warehouse.dir"] = (scratch / "warehouse").as_uri()
    return conf


def _java_options(settings: Settings, archive: Path | None, scratch: Path) -> str:
    options = [f"-Dderby.system.home={scratch}", "-Duser.timezone=UTC"]
    if archive is not None and archive.exists():
        options += [f'"-XX:SharedArchiveFile={archive}"', "-Xlog:cds*=off"]  # one that does not fit is no error
    if settings.spark.short_jobs:
        # C1 alone reserves 48 MB for compiled code, which a few dozen queries fill; then the JVM only interprets.
        options += ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:ReservedCodeCacheSize=256m"]
    return " ".join(options)


def _launch_environment(local: bool, java: Path) -> dict[str, str]:
    variables = {
        "JAVA_HOME": str(shim_home(java)),
        # The pyspark of this Python, whatever SPARK_HOME says.
        "SPARK_HOME": str(Path(pyspark.__file__).parent),
    }
    if local:
        variables["SPARK_CONF_DIR"] = str(empty_folder())
        variables["SPARK_LOCAL_IP"] = "127.0.0.1"
        variables["PYSPARK_PYTHON"] = sys.executable  # else workers run the python3 of PATH
    return variables


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _scratch_folder() -> Path:
    # Spark would make spark-warehouse, metastore_db and derby.log in the folder it was started from.
    folder = Path(tempfile.mkdtemp(prefix="penstock-spark-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
