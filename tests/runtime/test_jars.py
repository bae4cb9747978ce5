"""Jars against their lock, with tiny files in place of jars; nothing is downloaded and no Java is started."""

import hashlib
from pathlib import Path

import pytest

from penstock.config import Settings
from penstock.errors import RuntimeSetupError
from penstock.runtime.jar_lock import SHIPPED_LOCK, locked_jars
from penstock.runtime.jars import cassandra_jars, delta_jars, import_jars

DELTA = "io.delta:delta-spark_4.2_2.13:4.4.0"
CASSANDRA = "org.apache.cassandra:cassandra-all:5.0.9"
CONTENT = {"delta-spark.jar": b"spark", "delta-storage.jar": b"storage", "cassandra-all.jar": b"cassandra"}


def line(name: str) -> str:
    return f"{hashlib.sha256(CONTENT[name]).hexdigest()}  {len(CONTENT[name])}  {name}\n"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A lock of three jars and an empty cache, on a machine where resolving would fail."""
    monkeypatch.setenv("PATH", "")
    delta = f"[delta {DELTA}]\n" + line("delta-spark.jar") + line("delta-storage.jar")
    cassandra = f"[cassandra {CASSANDRA}]\n" + line("cassandra-all.jar")
    (tmp_path / "jars.lock").write_text(f"# a comment\n\n{delta}\n{cassandra}")
    return Settings(root=tmp_path, java={"home": "none"}, jars={"lock": "jars.lock", "cache": "cache"})


@pytest.fixture
def carried(tmp_path: Path) -> Path:
    """The jars as they were carried to a machine without network."""
    folder = tmp_path / "carried"
    (folder / "deeper").mkdir(parents=True)
    for name, content in CONTENT.items():
        (folder / "deeper" / name).write_bytes(content)
    return folder


def test_imported_jars_are_used_without_network_and_without_java(settings: Settings, carried: Path) -> None:
    (carried / "unrelated.jar").write_bytes(b"?")
    assert import_jars(settings, carried) == 3
    assert [path.name for path in delta_jars(settings)] == ["delta-spark.jar", "delta-storage.jar"]
    assert [path.name for path in cassandra_jars(settings).glob("*.jar")] == ["cassandra-all.jar"]


def test_importing_again_replaces_a_damaged_cache(settings: Settings, carried: Path) -> None:
    import_jars(settings, carried)
    delta_jars(settings)[0].write_bytes(b"damaged")
    import_jars(settings, carried)
    assert delta_jars(settings)[0].read_bytes() == b"spark"


def test_import_names_every_missing_jar_and_takes_none(settings: Settings, carried: Path, tmp_path: Path) -> None:
    (carried / "deeper" / "delta-storage.jar").unlink()
    (carried / "deeper" / "cassandra-all.jar").unlink()
    with pytest.raises(RuntimeSetupError, match=r"2 missing jar\(s\) .*: delta-storage.jar, cassandra-all.jar"):
        import_jars(settings, carried)
    assert not list((tmp_path / "cache").rglob("*.jar"))


def test_import_refuses_a_jar_that_is_not_the_locked_one(settings: Settings, carried: Path, tmp_path: Path) -> None:
    (carried / "deeper" / "delta-storage.jar").write_bytes(b"STORAGE")
    with pytest.raises(RuntimeSetupError) as caught:
        import_jars(settings, carried)
    for sha256 in (hashlib.sha256(b"STORAGE").hexdigest(), hashlib.sha256(b"storage").hexdigest()):
        assert sha256 in str(caught.value)
    assert not list((tmp_path / "cache").rglob("*.jar"))


def test_an_external_cassandra_needs_no_cassandra_jars(settings: Settings, carried: Path) -> None:
    (carried / "deeper" / "cassandra-all.jar").unlink()
    external = settings.model_copy(update={"cassandra": settings.cassandra.model_copy(update={"mode": "external"})})
    assert import_jars(external, carried) == 2


def test_a_cached_jar_of_another_size_is_refused(settings: Settings, carried: Path) -> None:
    import_jars(settings, carried)
    delta_jars(settings)[1].write_bytes(b"storage and more")
    with pytest.raises(RuntimeSetupError, match=r"delta-storage.jar is not the locked one(.|\n)*hint: delete"):
        delta_jars(settings)


def test_a_jar_that_vanished_from_the_cache_is_named(settings: Settings, carried: Path) -> None:
    import_jars(settings, carried)
    delta_jars(settings)[1].unlink()
    with pytest.raises(RuntimeSetupError, match=r"delta-storage.jar is missing, expected sha256"):
        delta_jars(settings)


def test_a_jar_too_many_in_the_cache_is_refused(settings: Settings, carried: Path) -> None:
    import_jars(settings, carried)
    (cassandra_jars(settings) / "planted.jar").write_bytes(b"!")
    with pytest.raises(RuntimeSetupError, match=r"1 jar\(s\) .* the lock does not hold: planted.jar"):
        cassandra_jars(settings)


def test_a_changed_lock_makes_cached_content_be_read_again(settings: Settings, carried: Path, tmp_path: Path) -> None:
    import_jars(settings, carried)
    delta_jars(settings)[0].write_bytes(b"SPARK")  # as long as before: only its content tells
    assert delta_jars(settings)
    lock = tmp_path / "jars.lock"
    lock.write_text(lock.read_text().replace(line("delta-storage.jar"), ""))
    (tmp_path / "cache" / "jars" / "delta-4.4.0" / "delta-storage.jar").unlink()
    with pytest.raises(RuntimeSetupError, match=r"delta-spark.jar is not the locked one"):
        delta_jars(settings)


def test_another_version_than_the_locked_one_is_refused(settings: Settings) -> None:
    newer = settings.model_copy(update={"jars": settings.jars.model_copy(update={"delta": "io.delta:delta-spark_4.2_2.13:9.9.9"})})
    with pytest.raises(RuntimeSetupError, match=rf"jars.delta is '.*9\.9\.9', but the lock .* holds '{DELTA}'"):
        delta_jars(newer)


def test_a_coordinate_cannot_leave_the_cache_folder(settings: Settings) -> None:
    evil = settings.model_copy(update={"jars": settings.jars.model_copy(update={"delta": "a:b:../../c"})})
    with pytest.raises(RuntimeSetupError, match="expected a Maven coordinate"):
        delta_jars(evil)


def test_a_damaged_lock_is_refused_by_line(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "jars.lock").write_text(f"[delta {DELTA}]\nabc  5  delta-spark.jar\n")
    with pytest.raises(RuntimeSetupError, match="line 2: expected"):
        delta_jars(settings)


def test_the_shipped_lock_is_for_the_default_coordinates() -> None:
    assert [jar.name.partition("-4.4.0")[0] for jar in locked_jars(Settings(), "delta").jars] == ["delta-spark_4.2_2.13", "delta-storage"]
    cassandra = locked_jars(Settings(), "cassandra").jars
    assert len(cassandra) == 101
    assert not [jar.name for jar in cassandra if "sources" in jar.name or "javadoc" in jar.name]


def test_the_lock_in_conf_is_a_copy_of_the_shipped_one() -> None:
    assert (Path(__file__).parents[2] / "conf" / "jars.lock").read_bytes() == SHIPPED_LOCK.read_bytes()
