"""The archive of Spark's classes: one for a Java and its jars, used where it fits, and missed by nobody where it does not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.config import Settings
from penstock.runtime.cache import user_cache
from penstock.runtime.class_archive import archive_of
from penstock.runtime.jars import delta_jars
from tests.conftest import ROOT

# Makes the archive, or leaves it, then tells whether a session's JVM has it mapped.
SESSION = """
import sys
from pathlib import Path
from penstock.config import load_settings
from penstock.runtime.class_archive import make_archive
from penstock.runtime.spark import spark_session, stop_session

settings = load_settings(Path(sys.argv[1]))
if sys.argv[2] == "make":
    print(make_archive(settings, spark_session, lambda spark: spark.range(3).collect()))
else:
    options = {"spark.driver.extraJavaOptions": sys.argv[3]}
    spark = spark_session(settings.model_copy(update={"spark": settings.spark.model_copy(update={"conf": options})}))
    assert spark.range(3).count() == 3
    maps = Path(f"/proc/{spark._jvm.java.lang.ProcessHandle.current().pid()}/maps").read_text()
    print("mapped" if "/spark-" in maps else "not mapped")
stop_session()
"""


def test_other_jars_or_another_java_have_another_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    java, jar = tmp_path / "java", tmp_path / "delta.jar"
    java.write_bytes(b"1")
    jar.write_bytes(b"1")
    one = archive_of(java, [jar])
    assert archive_of(java, [jar]) == one
    jar.write_bytes(b"12")
    two = archive_of(java, [jar])
    java.write_bytes(b"12")
    assert len({one, two, archive_of(java, [jar])}) == 3


@pytest.mark.real
@pytest.mark.skipif(sys.platform != "linux", reason="what a process maps is told by Linux")
def test_a_session_maps_the_archive_once_it_is_made_and_does_without_one_that_is_broken(settings: Settings, tmp_path: Path) -> None:
    delta_jars(settings)
    (tmp_path / "penstock").mkdir()
    (tmp_path / "penstock" / "jars").symlink_to(user_cache() / "jars")

    def session(what: str, options: str = "") -> str:
        line = [sys.executable, "-c", SESSION, str(ROOT), what, options]
        done = subprocess.run(line, env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)}, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.strip()

    assert session("use") == "not mapped"
    archive = Path(session("make"))
    made = archive.stat().st_mtime_ns
    # What an agent or a recording does, look at each class that is loaded, has killed Java 17 with other archives.
    assert session("use", f"-XX:StartFlightRecording=filename={tmp_path}/of.jfr -Xlog:jfr+startup=off") == "mapped"
    assert session("make") == str(archive)
    assert archive.stat().st_mtime_ns == made
    archive.chmod(0o600)
    archive.write_bytes(archive.read_bytes()[:100_000])
    assert session("use") == "not mapped"
