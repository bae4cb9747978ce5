"""Tokens of an issuer (JWT) as grants, beside API keys: whom `sub` names may read the services that one claim lists.

A token is accepted if a key that the issuer publishes (a JWKS) has signed it with an algorithm of `gateway.jwt.algorithms`, `iss` and
`aud` are as set, and now lies from `nbf` to `exp`. The algorithm is bound to the key, never taken from the token. The issuer is not
asked while a request waits: keys are looked at now and then, and sooner once a token named a key that is not known. What was verified
is remembered until it expires, or the keys change. Refusals say which rule was broken and repeat nothing of the token.
"""

import asyncio
import logging
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt
import msgspec
from jwt.exceptions import InvalidAudienceError, InvalidIssuerError, InvalidSignatureError, MissingRequiredClaimError, PyJWTError
from jwt.types import Options

from penstock.clock import Clock, SystemClock
from penstock.config import JwtSettings
from penstock.errors import ConfigError, NotAuthenticated
from penstock.serving.access import Grant

logger = logging.getLogger(__name__)

_LARGEST = 8192  # bytes of a token
_LONGEST_SUBJECT = 255  # characters, as OpenID Connect has it
_REMEMBERED = 10_000  # tokens
_SOONER = timedelta(seconds=10)  # between looks because of keys that are not known
_FETCH_S = 5.0
_LAST = datetime(9999, 12, 31, tzinfo=UTC).timestamp()

_OPTIONS: Options = {
    "require": ["exp", "iss", "aud", "sub"],
    "enforce_minimum_key_length": True,
    "verify_exp": False,  # this and the next by our Clock, below
    "verify_nbf": False,
    "verify_iat": False,
}
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_ALGORITHMS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("RSA", ""): _RSA,
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
"""Type and curve of a key → what it can sign with. A shared secret (`oct`) is not among them."""


class TokenAccess:
    """Grants of an issuer's tokens.

    Args:
        settings: with an issuer.
        jwks: where its keys are: a URL or a file.
        clock: what `exp` and `nbf` are judged by.
    """

    def __init__(self, settings: JwtSettings, jwks: str | Path, clock: Clock = SystemClock()) -> None:  # noqa: B008  # it holds nothing
        self._settings, self._jwks, self._clock = settings, jwks, clock
        self._document = b""
        self._keys: dict[tuple[str, str], jwt.PyJWK] = {}  # by kid and algorithm
        self._known: set[str] = set()
        self._missed = False
        self._looked_at: datetime | None = None
        self._verified: dict[str, Grant] = {}

    async def refresh(self) -> None:
        """Look at the issuer's keys if that is due; what cannot be read leaves the keys as they were."""
        now = self._clock.now()
        if self._looked_at is not None:
            wait = _SOONER if self._missed or not self._keys else timedelta(seconds=self._settings.refresh_s)
            if now - self._looked_at < wait:
                return
        self._looked_at, self._missed = now, False
        try:
            document = await asyncio.to_thread(_read, self._jwks)  # a handshake must not hold up requests
            if document == self._document:
                return
            keys = _public_keys(document, self._settings.algorithms)
        except ConfigError as error:
            logger.error("keeping the issuer's keys known so far: %s", error.message)
            return
        self._document, self._keys, self._known = document, keys, {kid for kid, _ in keys}
        self._verified.clear()  # a key that was withdrawn takes its tokens along
        logger.info("the issuer publishes %d key(s) to verify tokens with", len(self._known))

    def grant_of(self, token: bytes, digest: str) -> Grant | None:
        """The grant of a token; None if it is not of a token's form.

        Args:
            digest: sha256 of the token, by which it is remembered.

        Raises:
            NotAuthenticated: it is not accepted, or no longer; says why.
        """
        grant = self._verified.get(digest)
        if grant is None:
            if token.count(b".") != 2:
                return None
            if len(token) > _LARGEST:
                raise _refused(f"it is larger than {_LARGEST} bytes")
            grant = self._verify(token, digest)
            if len(self._verified) >= _REMEMBERED:
                del self._verified[next(iter(self._verified))]
            self._verified[digest] = grant
        return grant

    def _verify(self, token: bytes, digest: str) -> Grant:
        try:
            claims = jwt.decode(
                token,
                self._key_of(token),
                algorithms=self._settings.algorithms,
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                options=_OPTIONS,
            )
        except MissingRequiredClaimError as error:
            raise _refused(f"it has no claim '{error.claim}'") from None
        except InvalidAudienceError:
            raise _refused("it is for somebody else", f"ask for one whose claim aud names '{self._settings.audience}'") from None
        except InvalidIssuerError:
            raise _refused("another issuer made it") from None
        except InvalidSignatureError:
            raise _refused("its signature is wrong") from None
        except (PyJWTError, ValueError, RecursionError):
            raise _refused("it cannot be read") from None
        return Grant(sha256=digest, principal=self._principal(claims), services=self._services(claims), expires_at=self._expires_at(claims))

    def _key_of(self, token: bytes) -> jwt.PyJWK:
        header = jwt.get_unverified_header(token)
        kid, algorithm = header.get("kid"), header.get("alg")
        if kid is None:
            raise _refused("its header has no 'kid', so that its key cannot be told")
        if algorithm not in self._settings.algorithms:
            raise _refused("it is signed with an algorithm that is not accepted", f"sign with {', '.join(self._settings.algorithms)}")
        key = self._keys.get((kid, algorithm))
        if key is None and kid in self._known:
            raise _refused("its algorithm is not that of its key")
        if key is None:
            self._missed = True
            raise _refused("the issuer publishes no key of its 'kid'", "ask again in some seconds: a key published just now is looked for")
        return key

    def _principal(self, claims: Mapping[str, Any]) -> str:
        subject = claims["sub"]
        if not isinstance(subject, str) or not 0 < len(subject) <= _LONGEST_SUBJECT:
            raise _refused(f"its claim 'sub' is not 1 to {_LONGEST_SUBJECT} characters")
        return subject

    def _services(self, claims: Mapping[str, Any]) -> list[str]:
        services = claims.get(self._settings.services_claim, [])
        if isinstance(services, str):
            return services.split()
        if not isinstance(services, list) or not all(isinstance(service, str) for service in services):
            raise _refused(f"its claim '{self._settings.services_claim}' is no list of names of feature services")
        return services

    def _expires_at(self, claims: Mapping[str, Any]) -> datetime:
        now, leeway = self._clock.now().timestamp(), self._settings.leeway_s
        expires, begins = _instant(claims, "exp"), _instant(claims, "nbf") if "nbf" in claims else -math.inf
        if not now < expires + leeway:
            raise _refused("it has expired")
        if not begins - leeway <= now:
            raise _refused("it is not valid yet", "compare the clocks of the issuer and of this machine")
        return datetime.fromtimestamp(min(expires + leeway, _LAST), UTC)


def _read(jwks: str | Path) -> bytes:
    try:
        if isinstance(jwks, Path):
            return jwks.read_bytes()
        response = httpx.get(jwks, timeout=_FETCH_S)
    except OSError as error:
        raise ConfigError(f"gateway.jwt.jwks, {jwks}: {error.strerror}") from None
    except httpx.HTTPError as error:
        raise ConfigError(f"gateway.jwt.jwks, {jwks}: {type(error).__name__}: {error}") from None
    if response.status_code != httpx.codes.OK:
        raise ConfigError(f"gateway.jwt.jwks, {jwks}: status {response.status_code}")
    return response.content


class _Jwks(msgspec.Struct):
    keys: list[dict[str, Any]]


def _public_keys(document: bytes, algorithms: tuple[str, ...]) -> dict[tuple[str, str], jwt.PyJWK]:
    """Kid and algorithm → key. Keys for anything else, and of other kinds, are passed over: an issuer may publish more than we use.

    Raises:
        ConfigError: not a JWKS, or a key in it that we would use is broken.
    """
    try:
        described = msgspec.json.decode(document, type=_Jwks).keys
    except (msgspec.DecodeError, RecursionError) as error:
        raise ConfigError(f"the issuer's keys are not a JSON Web Key Set: {error}") from None
    keys = {}
    for key in described:
        kid, kind = key.get("kid"), (str(key.get("kty")), str(key.get("crv", "")))
        if not isinstance(kid, str) or key.get("use", "sig") != "sig" or "d" in key:  # `d`: not public
            continue
        for algorithm in _ALGORITHMS.get(kind, ()):
            if algorithm in algorithms and key.get("alg", algorithm) == algorithm:
                try:
                    keys[kid, algorithm] = jwt.PyJWK(key, algorithm)
                except PyJWTError as error:
                    raise ConfigError(f"a key of the issuer is broken: {type(error).__name__}") from None
    return keys


def _instant(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refused(f"its claim '{name}' is no number of seconds")
    try:
        return float(value)
    except OverflowError:
        raise _refused(f"its claim '{name}' is no number of seconds") from None


def _refused(why: str, hint: str = "ask the issuer for another token") -> NotAuthenticated:
    return NotAuthenticated(f"the token is not accepted: {why}", hint=hint)
