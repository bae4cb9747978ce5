"""Start an embedded Cassandra node: its configuration files, its command line, its detached process."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from string import Template

import psutil

from penstock.config import Settings
from penstock.errors import RuntimeSetupError
from penstock.runtime.jars import cassandra_jars
from penstock.runtime.java import find_java
from penstock.runtime.node_ports import Ports, node_address
from penstock.runtime.node_record import log_path

_TEMPLATES = Path(__file__).with_name("cassandra")
_DIRECTORIES = ("data", "commitlog", "hints", "saved_caches", "cdc")

# The shell leaves the node to init and goes: it is nobody's child, so it becomes nobody's zombie, and
# no Python that started it has to wait for it.
_DETACH = '"$@" </dev/null >>"$0" 2>&1 & echo $!'

# A small node starts in half the CPU and runs at a fifth of the speed; one under load compiles and collects as a server does.
_SIZES = {True: ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"), False: ("-XX:+UseG1GC",)}


def launch(settings: Settings, data: Path, *, index: int, ring_size: int, ports: Ports) -> psutil.Process:
    """Start the node and return at once; it is not ready yet.

    It runs in a session of its own, so that Ctrl-C in the terminal does not reach it, and logs to `log_path`.

    Raises:
        RuntimeSetupError: no Java 17, jars not usable, or no process came to be.
    """
    jars = cassandra_jars(settings)
    java = find_java(settings)
    names = _names(settings, data, index, ring_size, ports)
    _write_configuration(data, names)
    command = [str(java.executable), *_jvm_arguments(names), *_SIZES[settings.cassandra.small], "-cp", f"{data / 'conf'}:{jars / '*'}"]
    command.append("org.apache.cassandra.service.CassandraDaemon")
    if log_path(data).exists():
        log_path(data).replace(log_path(data).with_suffix(".log.1"))
    # glibc gives each of the node's many threads an arena of its own; two save 100 MB.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "2"}
    shell = subprocess.run(
        ["/bin/sh", "-c", _DETACH, str(log_path(data)), *command],
        cwd=data,
        env=environment,
        start_new_session=True,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        return psutil.Process(int(shell.stdout))
    except (ValueError, psutil.NoSuchProcess):
        tail = shell.stderr.strip() or log_tail(data)
        raise RuntimeSetupError(f"Cassandra node {index} did not start:\n{tail}", hint=f"read {log_path(data)}") from None


def log_tail(data: Path, lines: int = 20) -> str:
    """The log's last lines, indented, without the depths of stack traces."""
    try:
        text = log_path(data).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "  (no log)"
    telling = [line for line in text.splitlines() if not line.startswith("\tat ")]
    return "\n".join("  " + line[:300] for line in telling[-lines:])


def found_port_taken(data: Path) -> bool:
    """The last start failed because another process had taken one of the node's ports."""
    return "already in use" in log_tail(data) or "is in use by another process" in log_tail(data)


def initial_token(index: int, ring_size: int) -> int:
    """Where the index-th node (from 1) starts, so that every node owns the same share of the ring."""
    return -(2**63) + (index - 1) * 2**64 // ring_size


def _names(settings: Settings, data: Path, index: int, ring_size: int, ports: Ports) -> dict[str, str]:
    names = {
        "address": node_address(index),
        "seed": node_address(1),
        "port": str(ports.cql),
        "storage_port": str(ports.storage),
        "jmx_port": str(ports.jmx),
        "token": str(initial_token(index, ring_size)),
        "datacenter": settings.cassandra.local_datacenter,
        "heap": settings.cassandra.heap,
        "memtable": "64MiB" if settings.cassandra.small else "256MiB",
        "file_cache": "64MiB" if settings.cassandra.small else "512MiB",  # the greater one is Cassandra's own default
        "direct": "256M" if settings.cassandra.small else "1G",
        "data": str(data),
        "config": (data / "conf" / "cassandra.yaml").as_uri(),
    }
    # Quoted as JSON, which is YAML: a path may hold a space or a colon.
    return names | {f"{name}_directory": json.dumps(str(data / name)) for name in _DIRECTORIES}


def _write_configuration(data: Path, names: dict[str, str]) -> None:
    # A killed node leaves its unpacked native libraries behind.
    shutil.rmtree(data / "tmp", ignore_errors=True)
    for name in ("conf", "tmp", *_DIRECTORIES):
        (data / name).mkdir(exist_ok=True)
    for name in ("cassandra.yaml", "cassandra-rackdc.properties", "logback.xml"):
        template = Template((_TEMPLATES / name).read_text(encoding="utf-8"))
        (data / "conf" / name).write_text(template.substitute(names), encoding="utf-8")


def _jvm_arguments(names: dict[str, str]) -> list[str]:
    lines = (_TEMPLATES / "jvm.options").read_text(encoding="utf-8").splitlines()
    return [Template(line).substitute(names) for line in lines if line and not line.startswith("#")]
