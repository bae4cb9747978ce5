"""Settings: one schema, layered files, the environment, and secrets that stay secret."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from penstock.clock import FixedClock, SystemClock
from penstock.config import Settings, load_settings
from penstock.errors import ConfigError

ROOT = Path(__file__).parent.parent


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "base.yaml").write_text((ROOT / "conf" / "base.yaml").read_text())
    return tmp_path


def test_base_yaml_shows_every_setting_with_its_default() -> None:
    shown = yaml.safe_load((ROOT / "conf" / "base.yaml").read_text())
    defaults = Settings().model_dump(mode="json", exclude={"root"})
    shown["dagster"]["first_day"] = shown["dagster"]["first_day"].isoformat()
    assert shown == defaults


def test_the_shipped_lock_of_jars_is_the_one_in_conf() -> None:
    assert (ROOT / "conf" / "jars.lock").read_bytes() == (ROOT / "penstock" / "runtime" / "jars.lock").read_bytes()


def test_the_environment_wins_over_local_and_local_over_base(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "conf" / "local.yaml").write_text("cassandra: {port: 9100, heap: 256M}")
    monkeypatch.setenv("PENSTOCK_CASSANDRA__PORT", "9200")
    cassandra = load_settings(project).cassandra
    assert (cassandra.port, cassandra.heap, cassandra.keyspace) == (9200, "256M", "penstock")


def test_relative_paths_are_taken_from_the_project(project: Path) -> None:
    assert load_settings(project).lake_uri() == str(project / "var" / "lake")


def test_a_clock_stands_still_where_the_settings_say_so(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(load_settings(project).make_clock(), SystemClock)
    monkeypatch.setenv("PENSTOCK_CLOCK__NOW", "2026-03-02T12:00:00+02:00")
    assert load_settings(project).make_clock() == FixedClock(datetime(2026, 3, 2, 10, tzinfo=UTC))
    monkeypatch.setenv("PENSTOCK_CLOCK__NOW", "2026-03-02T12:00:00")
    with pytest.raises(ConfigError, match=r"clock\.now.*naive"):
        load_settings(project)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("lakes: {path: x}", r"lakes: Extra inputs are not permitted"),
        ("cassandra: {port: many}", r"cassandra\.port: Input should be a valid integer"),
        ("cassandra: [1]", r"cassandra"),
        ("- 1", "expected sections"),
        ("a: b: c", "is not YAML"),
        ("cassandra: {keyspace: 'x; DROP'}", r"cassandra\.keyspace"),
        ("gateway: {jwt: {issuer: 'https://x', jwks: k.json}}", r"gateway\.jwt: .*tokens of an issuer need audience too"),
        ("gateway: {jwt: {issuer: 'https://x', audience: a}}", r"gateway\.jwt: .*tokens of an issuer need jwks too"),
        ("gateway: {jwt: {jwks: 'http://login.example.test/jwks'}}", r"gateway\.jwt: .*come over https://, or from a file"),
        ("gateway: {jwt: {jwks: 'http://localhost.example.test/'}}", r"gateway\.jwt: .*come over https://, or from a file"),
        ("gateway: {jwt: {algorithms: [HS256]}}", r"gateway\.jwt\.algorithms\.0: Input should be 'RS256'"),
        ("gateway: {jwt: {algorithms: [none]}}", r"gateway\.jwt\.algorithms\.0: Input should be 'RS256'"),
    ],
)
def test_a_wrong_setting_is_named(project: Path, layer: str, message: str) -> None:
    (project / "conf" / "local.yaml").write_text(layer)
    with pytest.raises(ConfigError, match=message):
        load_settings(project)


def test_a_folder_that_is_no_project_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no settings at .*base\.yaml"):
        load_settings(tmp_path)


def test_a_secret_is_read_when_used_and_shown_nowhere(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "conf" / "local.yaml").write_text("cassandra: {username: u, password: 'env:PLANTED'}")
    monkeypatch.setenv("PLANTED", "hunter2")
    settings = load_settings(project)
    assert settings.cassandra.password is not None
    assert settings.cassandra.password.reveal() == "hunter2"
    assert "hunter2" not in repr(settings) + str(settings.model_dump()) + settings.model_dump_json()
    (project / "conf" / "local.yaml").write_text("cassandra: {password: hunter2}")
    with pytest.raises(ConfigError, match="never the value itself") as error:
        load_settings(project)
    assert "hunter2" not in str(error.value)


def test_what_cannot_be_read_is_named_and_not_repeated(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "conf" / "local.yaml").write_text("cassandra: {password: 'hunter2\n")
    with pytest.raises(ConfigError, match=r"local\.yaml is not YAML at line 2, column 1") as error:
        load_settings(project)
    assert "hunter2" not in str(error.value)
    (project / "conf" / "local.yaml").unlink()
    monkeypatch.setenv("PENSTOCK_CASSANDRA__CONTACT_POINTS", "10.0.0.1")
    with pytest.raises(ConfigError, match=r"a PENSTOCK_\* variable: .*\n.*as JSON"):
        load_settings(project)
