"""Delta's and Cassandra's jars: resolved once, checked against the lock, kept in a cache folder.

    <cache>/jars/delta-4.4.0/       delta_jars: for spark.jars
    <cache>/jars/cassandra-5.0.9/   cassandra_jars: the class path of an embedded node

A cache folder appears complete and verified or not at all. Afterwards neither network nor Java is
needed: every call checks names and sizes, and sha256 once per folder and lock.
"""

import logging
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from penstock.config import Settings
from penstock.errors import RuntimeSetupError
from penstock.runtime.cache import make_folder, one_at_a_time, user_cache, write_atomically
from penstock.runtime.ivy import resolve
from penstock.runtime.jar_lock import (
    KINDS,
    SHIPPED_LOCK,
    LockedJar,
    LockedJars,
    configured_coordinate,
    lock_path,
    lock_text,
    locked_jars,
    measure,
    sha256_of,
)

_log = logging.getLogger(__name__)

_MARKER = "VERIFIED"  # holds the digest of the lock's part that the folder was checked against


def delta_jars(settings: Settings) -> list[Path]:
    """Delta's jars for `spark.jars`, verified; downloaded on the first call.

    Raises:
        RuntimeSetupError: a jar is missing or not the locked one, or could not be downloaded.
    """
    locked = locked_jars(settings, "delta")
    folder = _ready_folder(settings, locked)
    return [folder / jar.name for jar in locked.jars]


def cassandra_jars(settings: Settings) -> Path:
    """The folder whose jars, and only they, are the embedded node's class path; downloaded on the first call.

    Raises:
        RuntimeSetupError: a jar is missing or not the locked one, or could not be downloaded.
    """
    return _ready_folder(settings, locked_jars(settings, "cassandra"))


def import_jars(settings: Settings, folder: Path) -> int:
    """Fill the cache from the *.jar files under `folder`, for a machine without network.

    Needs Delta's jars, and Cassandra's if the node is embedded; other files are left alone. Nothing
    is taken unless everything is there.

    Returns:
        How many jars were taken.

    Raises:
        RuntimeSetupError: jars are missing (all are named) or not the locked ones.
    """
    kinds = KINDS if settings.cassandra.mode == "embedded" else KINDS[:1]
    wanted = [locked_jars(settings, kind) for kind in kinds]
    offered = {path.name: path for path in sorted(folder.rglob("*.jar"))}
    missing = [jar.name for locked in wanted for jar in locked.jars if jar.name not in offered]
    if missing:
        raise RuntimeSetupError(
            f"{len(missing)} missing jar(s) under {folder}: {', '.join(missing)}",
            hint=f"on a machine with network, copy there the folders under {_jars_folder(settings)}",
        )
    for locked in wanted:
        _verify(locked, offered, hint="copy the jar again")
    for locked in wanted:
        with one_at_a_time(_lock_file(settings)), tempfile.TemporaryDirectory(dir=_jars_folder(settings)) as work:
            fresh = Path(work) / "jars"
            fresh.mkdir()
            for jar in locked.jars:
                shutil.copyfile(offered[jar.name], fresh / jar.name)
            _install(locked, fresh, cache_folder(settings, locked))
    return sum(len(locked.jars) for locked in wanted)


def write_lock(settings: Settings) -> Path:
    """Resolve the configured coordinates anew and lock what came: for maintainers, after a change of version.

    Trusts the download: compare the new lock with the old one before committing it.

    Returns:
        The lock written: `jars.lock` of the settings, else Penstock's own and its copy in the project's `conf/`.

    Raises:
        RuntimeSetupError: the jars could not be resolved.
    """
    parts = []
    for kind in KINDS:
        with tempfile.TemporaryDirectory(prefix="penstock-jars-") as work:
            resolve(settings, kind, Path(work))
            parts.append(measure(kind, configured_coordinate(settings, kind), Path(work)))
    text = lock_text(parts).encode()
    path = lock_path(settings)
    copy = settings.root / "conf" / "jars.lock"
    write_atomically(path, text)
    if path == SHIPPED_LOCK and copy.exists():
        write_atomically(copy, text)
    return path


def _ready_folder(settings: Settings, locked: LockedJars) -> Path:
    folder = cache_folder(settings, locked)
    if not folder.exists():
        # The others wait for the first process and then find the folder.
        with one_at_a_time(_lock_file(settings)):
            if not folder.exists():
                _download(settings, locked, folder)
    hint = f"delete {folder} and run again: the jars are then fetched anew"
    found = {path.name: path for path in folder.glob("*.jar")}
    # Everything in the folder is on a class path: one jar too many is as wrong as one too few.
    extra = sorted(found.keys() - {jar.name for jar in locked.jars})
    if extra:
        raise RuntimeSetupError(f"{len(extra)} jar(s) in {folder} that the lock does not hold: {', '.join(extra)}", hint=hint)
    marker = folder / _MARKER
    verified_before = marker.exists() and marker.read_text(encoding="ascii") == locked.digest()
    _verify(locked, found, hint=hint, sizes_only=verified_before)
    if not verified_before:
        write_atomically(marker, locked.digest().encode())
    return folder


def _download(settings: Settings, locked: LockedJars, folder: Path) -> None:
    _log.info("getting the %d jar(s) of %s, once", len(locked.jars), locked.coordinate)
    with tempfile.TemporaryDirectory(dir=_jars_folder(settings)) as work:
        fresh = Path(work) / "jars"
        fresh.mkdir()
        resolve(settings, locked.kind, fresh)
        hint = "if this repeats, your mirror serves something else than Maven Central: ask who runs it, and do not use the jar"
        found = {path.name: path for path in fresh.glob("*.jar")}
        _verify(locked, found, hint=hint)
        for name in found.keys() - {jar.name for jar in locked.jars}:
            found[name].unlink()
        _install(locked, fresh, folder)


def _install(locked: LockedJars, fresh: Path, folder: Path) -> None:
    write_atomically(fresh / _MARKER, locked.digest().encode())
    if folder.exists():
        shutil.rmtree(folder)
    fresh.rename(folder)


def _verify(locked: LockedJars, found: Mapping[str, Path], *, hint: str, sizes_only: bool = False) -> None:
    for jar in locked.jars:
        path = found.get(jar.name)
        if path is None:
            raise RuntimeSetupError(f"jar {jar.name} is missing, expected sha256 {jar.sha256}", hint=hint)
        if not (sizes_only and path.stat().st_size == jar.size):
            _verify_content(jar, path, hint)


def _verify_content(jar: LockedJar, path: Path, hint: str) -> None:
    found = sha256_of(path)
    if found != jar.sha256:
        seen = f"sha256 {found} ({path.stat().st_size} bytes)"
        raise RuntimeSetupError(f"jar {jar.name} is not the locked one: {seen}, expected {jar.sha256} ({jar.size} bytes)", hint=hint)


def cache_folder(settings: Settings, locked: LockedJars) -> Path:
    """Where these jars are kept, whether they are there yet or not."""
    return _jars_folder(settings) / f"{locked.kind}-{locked.version}"


def _jars_folder(settings: Settings) -> Path:
    cache = user_cache() if settings.jars.cache is None else settings.path(settings.jars.cache)
    return make_folder(cache / "jars", hint="set jars.cache to a folder you may write to")


def _lock_file(settings: Settings) -> Path:
    return _jars_folder(settings) / ".lock"
