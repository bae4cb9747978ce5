"""What `penstock doctor` finds, on tiny projects in temporary folders; no network, no Java but scripts, no Spark unless `real`."""

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest
import typer
from typer.testing import CliRunner, Result

from penstock.cli import doctor
from penstock.cli.doctor import definitions, settings_of
from penstock.config import Settings
from penstock.runtime.doctor import (
    GB,
    Finding,
    cassandra_port,
    dagster_home,
    disk,
    embedded_cassandra,
    examine,
    external_cassandra,
    jars,
    java,
    lake_disk,
    memory,
    python,
    server_port,
)
from penstock.runtime.jars import import_jars
from penstock.runtime.memory import Memory, machine_memory
from penstock.runtime.node_record import NodeRecord, storage_argument, write_record
from tests.project import free_port, penstock

ROOT = Path(__file__).parents[2]
SECRET = "hunter2-of-the-cluster"
ENVIRONMENT = dict(os.environ)  # as it is outside of these tests


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Java 17 on PATH and nothing else, an empty cache, no settings in the environment."""
    executable = tmp_path / "jdk" / "bin" / "java"
    executable.parent.mkdir(parents=True)
    executable.write_text(f"#!/bin/sh\necho '    java.home = {tmp_path}/jdk' >&2\necho 'openjdk version \"17.0.15\"' >&2\n")
    executable.chmod(0o755)
    monkeypatch.setenv("PATH", str(executable.parent))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("JAVA_HOME", *(name for name in os.environ if name.startswith("PENSTOCK_"))):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a small project that lacks nothing but jars, which is also the working folder."""
    folder = tmp_path / "project"
    (folder / "conf").mkdir(parents=True)
    (folder / "feature_assets").mkdir()
    (folder / "feature_assets" / "__init__.py").write_text("")
    (folder / "conf" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    ports = "\n".join(f"{section}: {{port: {free_port()}}}" for section in ("gateway", "dagster", "cassandra"))
    (folder / "conf" / "base.yaml").write_text(ports + "\n")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(autouse=True)
def imports_undone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The packages of feature files that a test imports are not those of the next."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "feature_assets"}
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "feature_assets"]:
        del sys.modules[name]
    sys.modules.update(before)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts Python processes that print a line when they are ready; they are ended with the test."""
    started = []

    def start(code: str, *arguments: str, cwd: Path = tmp_path) -> "subprocess.Popen[str]":
        process = subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=cwd, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


LISTEN = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); print(flush=True); time.sleep(60)"
SLEEP = "import time; print(flush=True); time.sleep(60)"


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def run(*arguments: str) -> Result:
    command = typer.Typer()
    command.command()(doctor.run)
    return CliRunner().invoke(command, arguments)


def state_of(findings: Iterator[Finding] | list[Finding]) -> dict[str, str]:
    return {finding.subject: finding.state for finding in findings}


# Python, Java


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 13, 9)])
def test_a_supported_python_is_ok(version: tuple[int, ...]) -> None:
    assert python(version).state == "ok"


@pytest.mark.parametrize("version", [(3, 10, 14), (3, 14, 0)])
def test_another_python_is_a_problem_that_names_the_supported_ones(version: tuple[int, ...]) -> None:
    found = python(version)
    assert (found.state, "3.11 to 3.13" in found.found, found.todo != "") == ("problem", True, True)


def test_the_java_that_would_be_used_is_named(tmp_path: Path) -> None:
    assert java(Settings()) == Finding("Java", "ok", f"17, of JAVA_HOME or PATH: {tmp_path}/jdk")


def test_a_configured_java_that_does_not_run_is_a_problem_with_what_to_do(tmp_path: Path) -> None:
    (found,) = [each for each in examine(Settings(root=tmp_path, java={"home": "nowhere"})) if each.subject == "Java"]
    assert (found.state, "does not run" in found.found, "java.home" in found.todo) == ("problem", True, True)


def test_no_java_is_needed_where_nothing_of_ours_runs_one() -> None:
    settings = Settings(java={"home": "nowhere"}, cassandra={"mode": "external"}, spark={"master": "sc://spark:15002"})
    assert java(settings).state == "ok"


# jars


@pytest.fixture
def locked(tmp_path: Path) -> Settings:
    """A lock of two jars for Delta, and an empty cache."""
    coordinate = Settings().jars.delta
    lines = [f"{hashlib.sha256(name.encode()).hexdigest()}  {len(name)}  {name}.jar\n" for name in ("spark", "storage")]
    (tmp_path / "jars.lock").write_text(f"[delta {coordinate}]\n" + "".join(lines))
    return Settings(root=tmp_path, jars={"lock": "jars.lock", "cache": "cache"}, cassandra={"mode": "external"})


@pytest.fixture
def imported(locked: Settings, tmp_path: Path) -> Path:
    """The cache folder with both jars in it."""
    (tmp_path / "carried").mkdir()
    for name in ("spark", "storage"):
        (tmp_path / "carried" / f"{name}.jar").write_text(name)
    import_jars(locked, tmp_path / "carried")
    return tmp_path / "cache" / "jars" / "delta-4.4.0"


def test_jars_that_were_never_resolved_are_no_problem_and_are_not_resolved(locked: Settings, tmp_path: Path) -> None:
    found = jars(locked, "delta")
    assert (found.state, "first use" in found.todo, "penstock jars import" in found.todo) == ("warning", True, True)
    assert not list(tmp_path.rglob("*.jar"))


def test_imported_jars_are_ok(locked: Settings, imported: Path) -> None:
    assert jars(locked, "delta") == Finding("Delta jars", "ok", f"2 of 4.4.0, as locked: {imported}")


def test_a_jar_that_is_not_the_locked_one_is_named_even_if_it_is_as_long(locked: Settings, imported: Path) -> None:
    (imported / "spark.jar").write_text("SPARK")  # 5 bytes, as before
    found = jars(locked, "delta")
    assert (found.state, found.found) == ("problem", f"{imported}: spark.jar is not the locked one")


def test_a_missing_jar_and_one_too_many_are_named(locked: Settings, imported: Path) -> None:
    (imported / "storage.jar").rename(imported / "planted.jar")
    found = jars(locked, "delta")
    assert (found.state, found.found) == ("problem", f"{imported}: storage.jar is missing, planted.jar is not in the lock")


def test_a_lock_for_another_version_is_a_problem(locked: Settings) -> None:
    newer = locked.model_copy(update={"jars": locked.jars.model_copy(update={"delta": "io.delta:delta-spark_4.2_2.13:9.9.9"})})
    assert state_of(examine(newer))["Delta jars"] == "problem"


# memory


def test_room_for_the_whole_demo_is_ok() -> None:
    assert memory(Memory(8 * GB, 6 * GB, limited=False)).state == "ok"


@pytest.mark.parametrize(("total", "available", "todo"), [(4, 3, "more memory"), (8, 5, "end other programs")])
def test_less_room_than_the_demo_needs_is_a_warning(total: int, available: int, todo: str) -> None:
    found = memory(Memory(total * GB, available * GB, limited=True))
    assert (found.state, todo in found.todo) == ("warning", True)
    assert f"{total}.0 GB (a cgroup's limit), of which {available}.0 GB available" in found.found


def write_files(folder: Path, **contents: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name.replace("__", ".")).write_text(content)


def test_the_smallest_limit_of_the_cgroups_around_a_process_counts(tmp_path: Path) -> None:
    write_files(tmp_path / "proc" / "self", cgroup="0::/outer/inner\n")
    outer = tmp_path / "sys/fs/cgroup/outer"
    write_files(outer, memory__max="1000\n", memory__current="900\n", memory__stat="anon 500\ninactive_file 300\n")
    write_files(outer / "inner", memory__max="max\n", memory__current="100\n", memory__stat="inactive_file 0\n")
    assert machine_memory(tmp_path) == Memory(1000, 400, limited=True)  # 1000 - 900 + 300 of droppable cache


def test_a_limit_of_cgroup_version_1_counts_where_the_path_is_the_hosts(tmp_path: Path) -> None:
    write_files(tmp_path / "proc" / "self", cgroup="9:name=systemd:/\n4:cpu,memory:/docker/abc\n0::/\n")
    mount = tmp_path / "sys/fs/cgroup/memory"
    write_files(mount, memory__limit_in_bytes="1000", memory__usage_in_bytes="200", memory__stat="total_inactive_file 50")
    assert machine_memory(tmp_path) == Memory(1000, 850, limited=True)  # 1000 - 200 + 50


def test_without_a_limit_the_machines_memory_counts(tmp_path: Path) -> None:
    write_files(tmp_path / "proc" / "self", cgroup="0::/\n")
    write_files(tmp_path / "sys/fs/cgroup", memory__max=str(2**63 - 4096), memory__current="1", memory__stat="inactive_file 0")
    seen = machine_memory(tmp_path)
    assert (seen.total, seen.limited) == (psutil.virtual_memory().total, False)


# disk


@pytest.mark.parametrize(("free", "state"), [(5.0, "ok"), (4.9, "warning"), (1.0, "warning"), (0.9, "problem")])
def test_room_on_disk_is_short_under_5_gb_and_out_under_1(tmp_path: Path, free: float, state: str) -> None:
    found = disk("lake disk", "lake.path", tmp_path, lambda _: int(free * GB))
    assert (found.state, found.found) == (state, f"{free} GB free at {tmp_path}")
    assert ("lake.path" in found.todo) == (state != "ok")


def test_a_folder_that_is_not_made_yet_is_judged_by_the_one_above_and_not_made(tmp_path: Path) -> None:
    asked: list[Path] = []
    assert disk("lake disk", "lake.path", tmp_path / "var" / "lake", lambda folder: asked.append(folder) or 9 * GB).state == "ok"
    assert asked == [tmp_path]
    assert not (tmp_path / "var").exists()


def test_a_folder_that_cannot_be_written_is_a_problem_that_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("a file is in the way")
    found = disk("Dagster disk", "dagster.home", tmp_path / "var" / "dagster")
    assert (found.state, "cannot be written: Not a directory" in found.found, "dagster.home" in found.todo) == ("problem", True, True)


def test_looking_at_a_folder_leaves_nothing_in_it(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    disk("lake disk", "lake.path", tmp_path / "lake")
    assert list((tmp_path / "lake").iterdir()) == []


def test_a_lake_behind_a_uri_is_not_looked_at_and_its_uri_not_shown() -> None:
    found = lake_disk(Settings(lake={"path": f"s3://key:{SECRET}@bucket/lake"}))
    assert found == Finding("lake disk", "ok", "lake.path is a URI (s3), which is not looked at")


# ports


def test_free_ports_are_ok(tmp_path: Path) -> None:
    settings = Settings(root=tmp_path, gateway={"port": free_port()}, dagster={"port": free_port()}, cassandra={"port": free_port()})
    assert [server_port(settings, "gateway").state, server_port(settings, "Dagster").state] == ["ok", "ok"]
    assert cassandra_port(settings).found == f"127.0.0.1:{settings.cassandra.port} is free"


def test_a_gateway_on_any_free_port_has_one() -> None:
    assert server_port(Settings(gateway={"port": 0}), "gateway").state == "ok"


def test_a_port_held_by_something_else_is_a_problem_that_names_holder_and_setting(tmp_path: Path, taken_port: int) -> None:
    found = server_port(Settings(root=tmp_path, dagster={"port": taken_port}), "Dagster")
    assert found.state == "problem"
    assert found.found.endswith(f"Address already in use by {psutil.Process().name()} (process {os.getpid()})")
    assert "dagster.port" in found.todo


def test_a_port_held_by_the_projects_own_gateway_is_ok(tmp_path: Path, start: Callable[..., "subprocess.Popen[str]"]) -> None:
    port = free_port()
    gateway = start(LISTEN, str(port), "penstock", "gateway", cwd=tmp_path)
    found = server_port(Settings(root=tmp_path, gateway={"port": port}), "gateway")
    assert (found.state, found.found) == ("ok", f"127.0.0.1:{port} is held by this project's own gateway (process {gateway.pid})")


def test_another_projects_gateway_is_something_else(tmp_path: Path, start: Callable[..., "subprocess.Popen[str]"]) -> None:
    port = free_port()
    start(LISTEN, str(port), "penstock", "gateway", cwd=tmp_path)
    assert server_port(Settings(root=tmp_path / "mine", gateway={"port": port}), "gateway").state == "problem"


def test_an_address_that_is_not_this_machines_is_a_problem_with_its_reason() -> None:
    found = server_port(Settings(gateway={"host": "192.0.2.1"}), "gateway")  # reserved for documentation, RFC 5737
    assert (found.state, "assign requested address" in found.found, "gateway.host" in found.todo) == ("problem", True, True)


def test_a_busy_preferred_port_of_cassandra_is_a_warning_since_another_is_taken(tmp_path: Path, taken_port: int) -> None:
    found = cassandra_port(Settings(root=tmp_path, cassandra={"port": taken_port}))
    assert (found.state, "cassandra.port" in found.todo) == ("warning", True)


# Cassandra


@pytest.fixture
def node(tmp_path: Path, start: Callable[..., "subprocess.Popen[str]"]) -> tuple[Settings, NodeRecord]:
    """A process with a node's mark on its command line, and the record that would be its."""
    data = tmp_path / "node"
    data.mkdir()
    process = psutil.Process(start(SLEEP, storage_argument(data)).pid)
    record = NodeRecord(process.pid, process.create_time(), True, "127.0.0.1", 19150, 7000, 7199, 1)
    return Settings(root=tmp_path, cassandra={"data": "node"}), record


def test_a_node_that_does_not_run_is_ok_and_what_starts_it_is_said(tmp_path: Path) -> None:
    found = embedded_cassandra(Settings(root=tmp_path))
    assert (found.state, "penstock node up" in found.found) == ("ok", True)


def test_a_running_node_is_ok_and_holds_its_port(node: tuple[Settings, NodeRecord]) -> None:
    settings, record = node
    write_record(settings.path("node"), record)
    assert embedded_cassandra(settings).found == f"embedded, running (process {record.pid}), CQL on 127.0.0.1:19150"
    assert cassandra_port(settings).found == f"127.0.0.1:19150 is held by this project's own node (process {record.pid})"


def test_a_node_that_lost_its_record_is_a_problem_that_says_what_to_end(node: tuple[Settings, NodeRecord]) -> None:
    settings, record = node
    found = embedded_cassandra(settings)
    assert (found.state, f"kill {record.pid}" in found.todo) == ("problem", True)


def test_an_external_cassandra_that_accepts_connections_is_ok(taken_port: int) -> None:
    assert external_cassandra(Settings(cassandra={"mode": "external", "port": taken_port})).state == "ok"


def test_an_external_cassandra_that_accepts_none_is_a_problem() -> None:
    port = free_port()
    found = external_cassandra(Settings(cassandra={"mode": "external", "port": port}))
    assert (found.state, f"127.0.0.1:{port} (Connection refused)" in found.found) == ("problem", True)


def test_a_contact_point_that_is_down_beside_one_that_is_up_is_a_warning(taken_port: int) -> None:
    settings = Settings(cassandra={"mode": "external", "port": taken_port, "contact_points": ("127.0.0.1", "127.0.0.9")})
    found = external_cassandra(settings)
    assert (found.state, "127.0.0.9" in found.found, "127.0.0.1" in found.found) == ("warning", True, False)


def test_an_external_cassandra_has_no_port_and_no_data_of_ours(tmp_path: Path) -> None:
    subjects = set(state_of(examine(Settings(root=tmp_path, cassandra={"mode": "external", "port": free_port()}))))
    assert "Cassandra" in subjects
    assert not subjects & {"Cassandra jars", "Cassandra port", "Cassandra disk"}


# Dagster home


def test_a_dagster_home_need_not_be_there_yet(project: Path) -> None:
    found = dagster_home(Settings(root=project))
    assert (found.state, "will be made" in found.found) == ("ok", True)


def test_a_project_without_dagster_yaml_is_warned(project: Path) -> None:
    (project / "conf" / "dagster.yaml").unlink()
    assert dagster_home(Settings(root=project)).state == "warning"


@pytest.mark.parametrize(
    ("content", "said"),
    [(f"storage:\n  password: '{SECRET}\n", "is not YAML at line 3, column 1"), (f"- {SECRET}\n", "found list")],
)
def test_a_dagster_yaml_that_is_none_is_a_problem_that_does_not_repeat_it(project: Path, content: str, said: str) -> None:
    (project / "conf" / "dagster.yaml").write_text(content)
    found = dagster_home(Settings(root=project))
    assert (found.state, said in found.found, SECRET in str(found)) == ("problem", True, False)


# settings and definitions


def test_outside_of_a_project_only_the_machine_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    result = run("--json")
    found = {each["subject"]: each for each in json.loads(result.stdout)}
    assert (result.exit_code, list(found)) == (1, ["settings", "Python", "Java", "memory"])
    assert "run this in a project's folder" in found["settings"]["todo"]
    assert found["Java"]["state"] == "ok"


def test_settings_that_are_wrong_are_one_problem_that_names_them(project: Path) -> None:
    (project / "conf" / "local.yaml").write_text(f"gateway: {{port: high}}\ncassandra: {{password: {SECRET}}}\n")
    settings, found = settings_of(project)
    assert (settings, found.state) == (None, "problem")
    assert "gateway.port: Input should be a valid integer" in found.found
    assert "cassandra.password: Value error, a secret is a reference" in found.found
    assert SECRET not in found.found
    assert "\n" not in found.found


def test_settings_that_are_not_yaml_are_a_problem_that_does_not_repeat_them(project: Path) -> None:
    (project / "conf" / "local.yaml").write_text(f"cassandra: {{password: '{SECRET}\n")
    _, found = settings_of(project)
    assert found.found == f"{project}/conf/local.yaml is not YAML at line 2, column 1"


def test_a_variable_that_cannot_be_read_is_a_problem_that_does_not_repeat_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_CASSANDRA", SECRET)
    _, found = settings_of(project)
    assert (found.state, '"cassandra"' in found.found, SECRET in str(found)) == ("problem", True, False)


def test_definitions_that_load_are_counted(project: Path) -> None:
    found = definitions(Settings(root=ROOT))
    assert (found.state, re.sub(r"\d+", "n", found.found)) == ("ok", "n feature view(s) and n feature service(s) in feature_assets")


def test_a_definition_that_breaks_a_rule_is_shown_with_its_message(project: Path) -> None:
    (project / "feature_assets" / "bad.py").write_text("from penstock.errors import ContractError\nraise ContractError('ttl is -1 h')\n")
    assert definitions(Settings(root=project)) == Finding("definitions", "problem", "ttl is -1 h", "correct that and run this again")


def test_a_project_without_feature_files_is_a_problem(project: Path) -> None:
    found = definitions(Settings(root=project), "no_such_package")
    assert (found.state, "no package 'no_such_package'" in found.found) == ("problem", True)


def test_feature_files_that_import_what_is_not_there_are_a_problem_with_its_name(project: Path) -> None:
    (project / "feature_assets" / "bad.py").write_text("import not_installed_here\n")
    found = definitions(Settings(root=project))
    assert found.found == f"ModuleNotFoundError at {project}/feature_assets/bad.py:1: No module named 'not_installed_here'"


def test_an_exception_of_feature_files_is_named_by_its_place_and_not_repeated(project: Path) -> None:
    (project / "feature_assets" / "bad.py").write_text(f"\nraise RuntimeError('{SECRET}')\n")
    assert definitions(Settings(root=project)).found == f"RuntimeError at {project}/feature_assets/bad.py:2"


# the command


def test_a_project_with_warnings_only_ends_with_exit_code_0(project: Path) -> None:
    result = run("--json")
    states = {each["subject"]: each["state"] for each in json.loads(result.stdout)}
    assert (result.exit_code, states["Delta jars"]) == (0, "warning")
    assert "problem" not in states.values()


def test_a_problem_ends_with_exit_code_1(project: Path, taken_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_GATEWAY__PORT", str(taken_port))
    assert run().exit_code == 1


def test_each_check_is_one_line_with_its_mark_and_what_to_do(project: Path) -> None:
    lines = run().stdout.splitlines()
    found = json.loads(run("--json").stdout)
    assert [line.split()[0] for line in lines] == [each["state"] for each in found]
    for line, each in zip(lines, found, strict=True):
        assert each["subject"] in line
        assert (each["todo"] == "") == (each["state"] == "ok")
        assert line.endswith(each["todo"] or each["found"].split("GB")[-1])  # bytes free differ between the two runs


def test_json_is_a_list_of_findings_even_if_feature_files_print(project: Path) -> None:
    (project / "feature_assets" / "__init__.py").write_text("print('loading')\n")
    found = json.loads(run("--json").stdout)
    assert all(each == asdict(Finding(**each)) for each in found)
    assert {"settings", "definitions", "Python", "Java", "memory", "lake disk", "gateway port", "Cassandra"} <= {
        f["subject"] for f in found
    }


def test_no_secret_is_shown(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASSANDRA_PASSWORD", SECRET)
    (project / "conf" / "local.yaml").write_text(
        f"lake: {{path: 's3://key:{SECRET}@bucket/lake'}}\n"
        f"spark: {{master: 'sc://spark:15002/;token={SECRET}', conf: {{spark.hadoop.fs.s3a.secret.key: {SECRET}}}}}\n"
        f"cassandra: {{mode: external, port: {free_port()}, username: app, password: 'env:CASSANDRA_PASSWORD'}}\n"
    )
    for arguments in ((), ("--json",)):
        result = run(*arguments)
        assert result.exit_code == 1  # nothing listens on that port
        assert SECRET not in result.output


def test_a_secret_that_is_not_where_the_settings_say_is_a_problem(project: Path) -> None:
    (project / "conf" / "local.yaml").write_text(
        f"cassandra: {{mode: external, port: {free_port()}, username: app, password: 'env:NO_SUCH_PASSWORD'}}\n"
    )
    found = run().stdout
    assert "problem  password           secret 'env:NO_SUCH_PASSWORD': the environment variable NO_SUCH_PASSWORD is not set" in found


def test_a_check_that_fails_is_a_problem_and_the_others_go_on(tmp_path: Path) -> None:
    found = state_of(examine(Settings(root=tmp_path, dagster={"home": "~nobody-of-this-name/x", "port": free_port()})))
    assert (found["Dagster disk"], found["Dagster port"]) == ("problem", "ok")


def deep_spark(**variables: str) -> dict[str, str]:
    """What `--deep` finds of Spark in this project, asked as a user does."""
    result = subprocess.run(
        penstock("doctor", "--deep", "--json"), cwd=ROOT, env={**ENVIRONMENT, **variables}, capture_output=True, text=True, check=False
    )
    found: list[dict[str, str]] = json.loads(result.stdout)
    return next(finding for finding in found if finding["subject"] == "Spark")


@pytest.mark.real
def test_deep_starts_spark_and_runs_a_job() -> None:
    found = deep_spark()
    assert (found["subject"], found["state"]) == ("Spark", "ok"), found


@pytest.mark.real
def test_deep_finds_a_spark_that_does_not_start_and_leaves_its_words_to_stderr() -> None:
    found = deep_spark(PENSTOCK_SPARK__MASTER="local[many]")
    assert (found["state"], found["found"]) == ("problem", "did not start, or did not do its job")
