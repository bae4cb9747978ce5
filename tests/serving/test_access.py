"""Deny by default: a key reads what it was granted and nothing else."""

import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from penstock.clock import FixedClock
from penstock.config import Settings
from penstock.errors import ConfigError, NotAuthenticated, NotAuthorized
from penstock.serving.access import Grant, authenticate, load_grants, local_key, mint_key, revoke_keys


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(root=tmp_path)


def grants(settings: Settings) -> dict[str, Grant]:
    return load_grants(settings.path(settings.gateway.keys_file))


def test_a_minted_key_is_known_and_covers_its_services_only(settings: Settings) -> None:
    key = mint_key(settings, "scoring", ["arrival_delay"])
    mint_key(settings, "another", ["*"])
    grant = authenticate(grants(settings), f"Bearer {key}".encode())
    assert grant.principal == "scoring"
    grant.require("arrival_delay")
    for service in ("arrival_delays", "arrival", "", "*", "no_such_service"):
        with pytest.raises(NotAuthorized, match=r"'scoring' holds no grant"):
            grant.require(service)


def test_a_star_covers_every_service(settings: Settings) -> None:
    authenticate(grants_with(settings, ["*"]), b"bearer key").require("anything")


def grants_with(settings: Settings, services: list[str]) -> dict[str, Grant]:
    grant = Grant(sha256="2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683", principal="p", services=services)
    return {grant.sha256: grant}  # sha256 of b"key"


def test_a_key_that_covers_nothing_reads_nothing(settings: Settings) -> None:
    with pytest.raises(NotAuthorized):
        authenticate(grants_with(settings, []), b"Bearer key").require("anything")


@pytest.mark.parametrize(
    "authorization",
    [None, b"", b"Bearer", b"Bearer ", b"Bearer wrong", b"Basic key", b"key", b"Bearer key key", b"Bearer \xff", b"Bearer KEY"],
)
def test_any_other_header_is_refused(settings: Settings, authorization: bytes | None) -> None:
    with pytest.raises(NotAuthenticated):
        authenticate(grants_with(settings, ["*"]), authorization)


def test_the_file_holds_no_key_and_is_its_owners_alone(settings: Settings) -> None:
    key = mint_key(settings, "scoring", ["*"])
    path = settings.path(settings.gateway.keys_file)
    assert key not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(".")] == []
    assert len(key.removeprefix("penstock_")) == 43  # 256 bits in base64


def test_keys_minted_at_once_are_all_kept(settings: Settings) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda n: mint_key(settings, f"p{n}", ["*"]), range(24)))
    assert {authenticate(grants(settings), f"Bearer {key}".encode()).principal for key in keys} == {f"p{n}" for n in range(24)}


def test_a_key_is_refused_from_the_instant_it_expires(settings: Settings) -> None:
    clock = FixedClock(datetime(2026, 3, 1, 12, tzinfo=UTC))
    authorization = f"Bearer {mint_key(settings, 'scoring', ['*'], clock.now() + timedelta(seconds=1))}".encode()
    clock.advance(timedelta(seconds=0.999999))
    assert authenticate(grants(settings), authorization, clock=clock).principal == "scoring"
    clock.advance(timedelta(microseconds=1))
    with pytest.raises(NotAuthenticated, match="of 'scoring' has expired"):
        authenticate(grants(settings), authorization, clock=clock)


def test_a_revoked_key_is_unknown_and_the_others_of_its_principal_are_not(settings: Settings) -> None:
    old, new = [f"Bearer {mint_key(settings, 'scoring', ['*'])}".encode() for _ in range(2)]
    assert len({authenticate(grants(settings), key).id for key in (old, new)}) == 2  # both are accepted while one takes over
    gone = authenticate(grants(settings), old)
    assert revoke_keys(settings, [gone.id]) == [gone]
    assert authenticate(grants(settings), new).principal == "scoring"
    with pytest.raises(NotAuthenticated):
        authenticate(grants(settings), old)


def test_an_id_that_is_none_revokes_nothing(settings: Settings) -> None:
    mint_key(settings, "scoring", ["*"])
    (grant,) = grants(settings).values()
    with pytest.raises(ConfigError, match=r"no API key '', 'abc'"):
        revoke_keys(settings, [grant.id, "abc", ""])
    assert list(grants(settings).values()) == [grant]


def test_no_file_is_no_key_and_a_broken_one_is_an_error(settings: Settings) -> None:
    assert grants(settings) == {}
    path = settings.path(settings.gateway.keys_file)
    path.parent.mkdir()
    for broken in (
        "",
        "[]",
        '{"format": 2, "keys": []}',
        '{"format": 1, "keys": [], "more": 1}',
        '{"format": 1, "keys": [{"sha256": "a"}]}',
        '{"format": 1, "keys": [{"sha256": "a", "principal": "p", "services": [], "expires_at": "2026-03-01T12:00:00"}]}',
    ):
        path.write_text(broken)
        with pytest.raises(ConfigError, match="API keys in"):
            grants(settings)


def test_the_local_key_is_minted_once_and_again_when_it_is_no_longer_known(settings: Settings) -> None:
    key = local_key(settings)
    assert local_key(settings) == key
    assert [grant.principal for grant in grants(settings).values()] == ["local"]
    kept = settings.path(settings.gateway.keys_file).with_name("local.key")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    settings.path(settings.gateway.keys_file).unlink()
    assert local_key(settings) != key
    assert len(grants(settings)) == 1
