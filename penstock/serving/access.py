"""Who may read which feature service: nobody, except holders of a key that was granted it.

The keys file holds no key: sha256 of each, with a principal and the services granted. A fast hash
is enough for keys that are 256 random bits; there is nothing to guess.
"""

import fcntl
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import msgspec

from penstock.config import Settings
from penstock.errors import ConfigError, NotAuthenticated, NotAuthorized

ALL_SERVICES = "*"
_KEY_BYTES = 32
_LOCAL_KEY = "local.key"
_FORMAT = 1


class Grant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one key may read.

    Args:
        sha256: of the key, hexadecimal.
        principal: who holds it, for people and logs.
        services: names of feature services, or `*` for all.
    """

    sha256: str
    principal: str
    services: list[str]

    def covers(self, service: str) -> bool:
        return ALL_SERVICES in self.services or service in self.services

    def require(self, service: str) -> None:
        """Refuse what is not granted, known or not.

        Raises:
            NotAuthorized: the key does not cover the service.
        """
        if not self.covers(service):
            raise NotAuthorized(
                f"'{self.principal}' holds no grant for feature service '{service}'", hint="mint a key that names the service"
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


def authenticate(grants: Mapping[str, Grant], authorization: bytes | None) -> Grant:
    """The grant of the key in an `Authorization: Bearer <key>` header.

    Raises:
        NotAuthenticated: no header, another scheme, or a key that is not known.
    """
    if authorization is None:
        raise NotAuthenticated("no API key", hint="send 'Authorization: Bearer <key>'")
    scheme, _, key = authorization.partition(b" ")
    # Compared by hash: how long a lookup takes tells nothing about the key.
    grant = grants.get(_hash(key.strip())) if scheme.lower() == b"bearer" else None
    if grant is None:
        raise NotAuthenticated("the API key is not known", hint="it may be mistyped or revoked; ask for another")
    return grant


def mint_key(settings: Settings, principal: str, services: Sequence[str]) -> str:
    """A new API key for `principal`, told this once; its hash is added to `gateway.keys_file` (mode 0600).

    Args:
        services: feature services it may read; `*` for all.

    Raises:
        ConfigError: the keys file cannot be read or written.
    """
    key = f"penstock_{secrets.token_urlsafe(_KEY_BYTES)}"
    path = settings.path(settings.gateway.keys_file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(f"{path.name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two mints at once must not lose one key
            minted = Grant(sha256=_hash(key.encode()), principal=principal, services=list(services))
            _write(path, [*load_grants(path).values(), minted])
    except OSError as error:
        raise ConfigError(f"API keys in {path}: {error.strerror}") from None
    return key


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


def _write(path: Path, grants: Iterable[Grant]) -> None:
    document = msgspec.json.format(msgspec.json.encode(_KeysFile(format=_FORMAT, keys=list(grants))), indent=2)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(document)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _hash(key: bytes) -> str:
    return sha256(key).hexdigest()
