"""Spark's classes, read once: an archive that later JVMs map instead of reading 300 jars (Java's class data sharing).

Before it has computed anything a session loads ten thousand classes, and its first attempt as many again; each is found in a jar,
parsed and verified. Mapped from an archive that is done already: a session and its first attempt take two thirds of the CPU.

    a session that does what sessions do notes what it loads ──► java -Xshare:dump ──► <cache>/java/spark-<of what>.jsa

An archive fits one Java and one class path, so its name follows from both. A JVM that finds none, or none that fits, does without.
"""

import hashlib
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pyspark
from pyspark.sql import SparkSession

from penstock.config import Settings
from penstock.errors import RuntimeSetupError
from penstock.runtime.cache import make_folder, one_at_a_time, user_cache
from penstock.runtime.jars import delta_jars
from penstock.runtime.java import find_java

_KEPT = 3  # archives of other versions and other environments; each takes 200 MB
_AT_MOST_S = 600
_MADE_SO = b"2"  # goes on whenever what is put in is others


def archive_of(java: Path, jars: Iterable[Path]) -> Path:
    """Where the archive for a Java and Delta's jars is kept, whether it is there or not; reinstalled jars have another."""
    found = hashlib.sha256(_MADE_SO)
    for path in (java, *sorted((Path(pyspark.__file__).parent / "jars").glob("*.jar")), *jars):
        stat = path.stat()
        found.update(f"{path}:{stat.st_size}:{int(stat.st_mtime)}\n".encode())
    return _folder() / f"spark-{found.hexdigest()[:12]}.jsa"


def is_there(settings: Settings) -> bool:
    """Whether the archive for these settings is made."""
    return archive_of(find_java(settings).executable, delta_jars(settings)).exists()


def empty_folder() -> Path:
    """Stands for Spark's folder of settings, which is on the class path, where an archive allows no folder with anything in it."""
    return make_folder(_folder() / "no-settings", hint="set XDG_CACHE_HOME to a folder you may write to")


def make_archive(settings: Settings, session: Callable[[Settings], SparkSession], rehearse: Callable[[SparkSession], None]) -> Path:
    """The archive for these settings, made if it is not there; takes about a minute of CPU.

    Args:
        settings: which Java and jars.
        session: starts this process's session; none runs yet. It is left running.
        rehearse: does with it what sessions do.

    Raises:
        RuntimeSetupError: this Java could not make one; without, all works as before.
    """
    java = find_java(settings).executable
    archive = archive_of(java, delta_jars(settings))
    with one_at_a_time(_folder() / ".lock"), tempfile.TemporaryDirectory(dir=_folder()) as work:
        if not archive.exists():
            fresh, classes = Path(work) / archive.name, Path(work) / "classes"
            noting = {**settings.spark.conf, "spark.driver.extraJavaOptions": f"-XX:DumpLoadedClassList={classes} -Xshare:off"}
            spark = session(settings.model_copy(update={"spark": settings.spark.model_copy(update={"conf": noting})}))
            rehearse(spark)
            _leave_out_generated(classes)
            class_path = str(spark._jvm.java.lang.System.getProperty("java.class.path"))  # type: ignore[union-attr]
            _dump(java, classes, class_path, fresh)
            fresh.replace(archive)
            _forget_all_but(archive)
    return archive


def _leave_out_generated(classes: Path) -> None:
    """Classes that Java makes anew in the archive have no file, and Java 17 dies of them where an agent or a flight recording looks at
    each class that is loaded."""
    kept = [line for line in classes.read_text().splitlines() if not line.startswith("@lambda-form-invoker")]
    classes.write_text("\n".join([*kept, ""]))


def _dump(java: Path, classes: Path, class_path: str, archive: Path) -> None:
    line = [str(java), "-Xshare:dump", f"-XX:SharedClassListFile={classes}", f"-XX:SharedArchiveFile={archive}", "-Xlog:cds*=off"]
    done = subprocess.run([*line, "-cp", class_path], capture_output=True, text=True, errors="replace", timeout=_AT_MOST_S, check=False)
    if done.returncode or not archive.exists():
        said = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise RuntimeSetupError(
            f"{java} made no archive of Spark's classes (exit code {done.returncode}): {' | '.join(said)}",
            hint="a Java other than OpenJDK may have none; all works without, each start takes longer",
        )


def _forget_all_but(archive: Path) -> None:
    others = sorted((path for path in _folder().glob("spark-*.jsa") if path != archive), key=lambda path: path.stat().st_mtime)
    for path in others[:-_KEPT]:
        path.unlink(missing_ok=True)


def _folder() -> Path:
    return make_folder(user_cache() / "java", hint="set XDG_CACHE_HOME to a folder you may write to")
