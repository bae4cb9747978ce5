"""Who may read which feature service: nobody, except holders of a key, or of a token, that was granted it.

A grant is (principal, feature service, action). The gateway only reads, so there is one action and it is not written down.
The keys file holds no key: sha256 of each, with a principal and the services granted. A fast hash
is enough for keys that are 256 random bits; there is nothing to guess. Whether a key has expired is judged by the
machine's clock, also where `clock.now` lets time stand still.
"""

import fcntl
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Protocol

import msgspec

from penstock.clock import Clock, SystemClock
from penstock.config import Settings
from penstock.errors import ConfigError, NotAuthenticated, NotAuthorized

ALL_SERVICES = "*"
_KEY_BYTES = 32
_LOCAL_KEY = "local.key"
_FORMAT = 1
_SYSTEM = SystemClock()


class Grant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one key, or token, may read.

    Args:
        sha256: of the key, hexadecimal.
        principal: who holds it, for people and logs.
        services: names of feature services, or `*` for all.
        expires_at: from when on it is refused; null: never.
    """

    sha256: str
    principal: str
    services: list[str]
    expires_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None

    @property
    def id(self) -> str:
        """What a key is called without saying it: the beginning of its hash."""
        return self.sha256[:12]

    def covers(self, service: str) -> bool:
        return ALL_SERVICES in self.services or service in self.services

    def require(self, service: str) -> None:
        """Refuse what is not granted, known or not.

        Raises:
            NotAuthorized: the key does not cover the service.
        """
        if not self.covers(service):
            raise NotAuthorized(
                f"'{self.principal}' holds no grant for feature service '{service}'", hint="ask for a key or token that names the service"
            )


class _KeysFile(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    format: int
    keys: list[Grant]


def load_grants(path: Path) -> dict[str, Grant]:
    """Key hash → grant; empty if there is no file.

    Raises:
        ConfigError: the file cannot be read or is not one of ours.
    """
    try:
        document = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"API keys in {path}: {error.strerror}") from None
    try:
        keys = msgspec.json.decode(document, type=_KeysFile)
    except msgspec.DecodeError as error:
        raise ConfigError(f"API keys in {path}: {error}") from None
    if keys.format != _FORMAT:
        raise ConfigError(f"API keys in {path} are of format {keys.format}; this Penstock reads format {_FORMAT}")
    return {grant.sha256: grant for grant in keys.keys}


class Tokens(Protocol):
    """Knows the grants of tokens that others issue."""

    def grant_of(self, token: bytes, digest: str) -> Grant | None: ...


def authenticate(grants: Mapping[str, Grant], authorization: bytes | None, tokens: Tokens | None = None, clock: Clock = _SYSTEM) -> Grant:
    """The grant of the key, or token, in an `Authorization: Bearer <key>` header.

    Args:
        tokens: asked about what is not the key of a grant.

    Raises:
        NotAuthenticated: no header, another scheme, a key that is not known or has expired, a token that is not accepted.
    """
    if authorization is None:
        raise NotAuthenticated("no API key", hint="send 'Authorization: Bearer <key>'")
    scheme, _, key = authorization.partition(b" ")
    grant = None
    if scheme.lower() == b"bearer":
        key = key.strip()
        # Compared by hash: how long a lookup takes tells nothing about the key.
        digest = _hash(key)
        grant = grants.get(digest)
        if grant is None and tokens is not None:
            grant = tokens.grant_of(key, digest)
    if grant is None:
        raise NotAuthenticated("the API key is not known", hint="it may be mistyped or revoked; ask for another")
    if grant.expires_at is not None and grant.expires_at <= clock.now():
        raise NotAuthenticated(f"the API key or token of '{grant.principal}' has expired", hint="ask for another")
    return grant


def mint_key(settings: Settings, principal: str, services: Sequence[str], expires_at: datetime | None = None) -> str:
    """A new API key for `principal`, told this once; its hash is added to `gateway.keys_file` (mode 0600).

    Args:
        services: feature services it may read; `*` for all.
        expires_at: from when on it is refused; default: never.

    Raises:
        ConfigError: the keys file cannot be read or written.
    """
    key = f"penstock_{secrets.token_urlsafe(_KEY_BYTES)}"
    minted = Grant(sha256=_hash(key.encode()), principal=principal, services=list(services), expires_at=expires_at)
    with _changing(settings.path(settings.gateway.keys_file)) as keys:
        keys.append(minted)
    return key


def revoke_keys(settings: Settings, ids: Sequence[str]) -> list[Grant]:
    """Take keys out of the keys file; returns what they were granted.

    Args:
        ids: as `Grant.id` has them.

    Raises:
        ConfigError: an id that no key has, then nothing is revoked; the keys file cannot be read or written.
    """
    with _changing(settings.path(settings.gateway.keys_file)) as keys:
        unknown = sorted(set(ids) - {grant.id for grant in keys})
        if unknown:
            raise ConfigError(f"no API key {', '.join(map(repr, unknown))}", hint="`penstock keys list` has the ids; nothing was revoked")
        revoked = [grant for grant in keys if grant.id in ids]
        keys[:] = [grant for grant in keys if grant.id not in ids]
    return revoked


def local_key(settings: Settings) -> str:
    """The API key of this machine's user, for every service: minted at first use and kept beside the keys file (mode 0600).

    Raises:
        ConfigError: the keys file or the key's own cannot be read or written.
    """
    keys_file = settings.path(settings.gateway.keys_file)
    path = keys_file.with_name(_LOCAL_KEY)
    try:
        if path.exists():
            key = path.read_text(encoding="ascii").strip()
            if _hash(key.encode()) in load_grants(keys_file):
                return key
        key = mint_key(settings, "local", [ALL_SERVICES])
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(key + "\n")
    except OSError as error:
        raise ConfigError(f"the local API key in {path}: {error.strerror}") from None
    return key


@contextmanager
def _changing(path: Path) -> Iterator[list[Grant]]:
    """The keys, written back when the block ends well; two changes at once lose nothing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(f"{path.name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            keys = list(load_grants(path).values())
            yield keys
            _write(path, keys)
    except OSError as error:
        raise ConfigError(f"API keys in {path}: {error.strerror}") from None


def _write(path: Path, grants: list[Grant]) -> None:
    document = msgspec.json.format(msgspec.json.encode(_KeysFile(format=_FORMAT, keys=grants)), indent=2)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(document)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _hash(key: bytes) -> str:
    return sha256(key).hexdigest()
