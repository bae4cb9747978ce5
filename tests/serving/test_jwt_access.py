"""Tokens of an issuer: let in is who holds one as agreed, for as long as it says, and nobody else."""

import asyncio
import base64
import hmac
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from penstock.clock import FixedClock
from penstock.config import GatewaySettings, JwtSettings
from penstock.errors import NotAuthenticated, NotAuthorized
from penstock.serving.access import Grant, authenticate
from penstock.serving.jwt_access import TokenAccess
from tests.serving.issuer import AUDIENCE, ISSUER, claims, ec_key, public_ec, public_rsa, publish, rsa_key, token
from tests.serving.running import running_gateway

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class World:
    """A gateway's side of an issuer whose keys are in a file."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.clock = FixedClock(NOW)
        self.jwks = folder / "jwks.json"
        publish(self.jwks, public_rsa(1), public_ec(1))
        self.access = TokenAccess(JwtSettings(issuer=ISSUER, audience=AUDIENCE, jwks=str(self.jwks), **settings), self.jwks, self.clock)
        self.look()

    def look(self) -> None:
        asyncio.run(self.access.refresh())

    def grant(self, bearer: str) -> Grant:
        return authenticate({}, f"Bearer {bearer}".encode(), self.access, self.clock)

    def refusal(self, bearer: str) -> str:
        with pytest.raises(NotAuthenticated) as refused:
            self.grant(bearer)
        said = refused.value.message + refused.value.hint
        assert refused.value.hint
        assert not [part for part in bearer.split(".") if len(part) > 8 and part in said]
        return refused.value.message


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_good_token_grants_its_subject_the_services_it_lists(world: World) -> None:
    grant = world.grant(token(claims(NOW)))
    assert (grant.principal, grant.services) == ("scoring", ["carriers"])
    grant.require("carriers")
    with pytest.raises(NotAuthorized):
        grant.require("all_features")


def test_each_published_key_signs_with_its_own_algorithm(world: World) -> None:
    said = claims(NOW, aud=["another", AUDIENCE])
    assert world.grant(token(said, ec_key(1), "ES256", kid="ec1")).principal == "scoring"
    assert "algorithm that is not accepted" in world.refusal(token(said, algorithm="RS512"))
    assert "algorithm is not that of its key" in world.refusal(token(said, ec_key(1), "ES256", kid="rsa1"))
    assert "algorithm is not that of its key" in world.refusal(token(said, algorithm="RS256", kid="ec1"))


def test_services_may_be_one_text_and_a_token_without_the_claim_reads_nothing(tmp_path: Path) -> None:
    assert World(tmp_path).grant(token(claims(NOW, penstock_services="carriers all_features"))).services == ["carriers", "all_features"]
    with pytest.raises(NotAuthorized):
        World(tmp_path).grant(token(claims(NOW, penstock_services=None))).require("carriers")
    roles = World(tmp_path, services_claim="roles")
    assert roles.grant(token(claims(NOW, roles=["*"]))).services == ["*"]


def unsigned(said: dict[str, Any], algorithm: str) -> str:
    parts = [json.dumps({"alg": algorithm, "kid": "rsa1", "typ": "JWT"}).encode(), json.dumps(said).encode()]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts) + "."


def test_no_algorithm_and_a_shared_secret_are_refused(world: World) -> None:
    for none in ("none", "None", "NONE", ""):
        assert "algorithm that is not accepted" in world.refusal(unsigned(claims(NOW), none))
    public = rsa_key(1).public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    signed = unsigned(claims(NOW), "HS256").rstrip(".")
    mac = base64.urlsafe_b64encode(hmac.digest(public, signed.encode(), "sha256")).decode().rstrip("=")
    assert "algorithm that is not accepted" in world.refusal(f"{signed}.{mac}")


def test_a_shared_secret_in_the_key_set_verifies_nothing(world: World) -> None:
    secret = base64.urlsafe_b64encode(b"k" * 32).decode().rstrip("=")
    publish(world.jwks, public_rsa(1), {"kty": "oct", "k": secret, "kid": "shared", "alg": "HS256"})
    world.clock.advance(timedelta(hours=1))
    world.look()
    assert "not accepted" in world.refusal(jwt.encode(claims(NOW), b"k" * 32, "HS256", headers={"kid": "shared"}))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"iss": "https://login.example.test"}, "another issuer made it"),  # a slash less
        ({"iss": None}, "no claim 'iss'"),
        ({"aud": "another"}, "for somebody else"),
        ({"aud": ["another"]}, "for somebody else"),
        ({"aud": None}, "no claim 'aud'"),
        ({"sub": None}, "no claim 'sub'"),
        ({"sub": ""}, "'sub'"),
        ({"sub": "s" * 256}, "'sub'"),
        ({"exp": None}, "no claim 'exp'"),
        ({"exp": float("nan")}, "expired"),
        ({"exp": True}, "'exp' is no number"),
        ({"exp": 10**400}, "'exp' is no number"),
        ({"nbf": "now"}, "'nbf' is no number"),
        ({"nbf": float("nan")}, "not valid yet"),
        ({"penstock_services": {"carriers": True}}, "'penstock_services' is no list"),
        ({"penstock_services": ["carriers", 7]}, "'penstock_services' is no list"),
    ],
)
def test_a_claim_that_is_not_as_agreed_is_named(world: World, changed: dict[str, Any], why: str) -> None:
    signed = jwt.api_jws.encode(json.dumps(claims(NOW, **changed)).encode(), rsa_key(1), "RS256", headers={"kid": "rsa1"})
    assert why in world.refusal(signed)


def test_a_token_is_good_from_nbf_to_exp_and_ten_seconds_around(world: World) -> None:
    start = NOW.timestamp()
    early, late = token(claims(NOW, nbf=start + 11)), token(claims(NOW, nbf=start + 10, exp=start + 60))
    assert "not valid yet" in world.refusal(early)
    assert world.grant(late).principal == "scoring"
    world.clock.advance(timedelta(seconds=1))
    assert world.grant(early).principal == "scoring"
    world.clock.advance(timedelta(seconds=68.999))  # now is start + 69.999
    assert world.grant(late).principal == "scoring"
    world.clock.advance(timedelta(seconds=0.001))
    assert "expired" in world.refusal(late)  # it was remembered
    assert "expired" in world.refusal(token(claims(NOW, exp=start + 60, jti="another")))  # this one was not


def test_a_token_of_a_far_day_is_no_error(world: World) -> None:
    assert world.grant(token(claims(NOW, exp=10**18))).expires_at is not None


@pytest.mark.parametrize(
    "garbage",
    [
        "..",
        "a.b.c",
        "!!.!!.!!",
        "e30.e30.e30",
        "\xff.\xff.\xff",
        "null.null.null",
        unsigned({}, "RS256"),
        "." * 2 + "x" * 9000,
        "x" * 9000 + "..",
    ],
)
def test_garbage_is_refused(world: World, garbage: str) -> None:
    assert world.refusal(garbage)


def test_deep_garbage_is_refused(world: World) -> None:
    deep = base64.urlsafe_b64encode(b"[" * 3000).decode().rstrip("=")
    assert "cannot be read" in world.refusal(f"{deep}.e30.e30")


def test_what_has_not_the_form_of_a_token_is_an_unknown_key(world: World) -> None:
    assert world.refusal("penstock_nobodys") == "the API key is not known"


def test_a_changed_token_is_refused(world: World) -> None:
    header, payload, signature = token(claims(NOW)).split(".")
    _, other, _ = token(claims(NOW, penstock_services=["*"])).split(".")
    assert "signature is wrong" in world.refusal(f"{header}.{other}.{signature}")
    assert "signature is wrong" in world.refusal(token(claims(NOW), rsa_key(2)))
    assert "cannot be read" in world.refusal(f"{header}.{payload}.{signature}=!")
    assert "no 'kid'" in world.refusal(jwt.encode(claims(NOW), rsa_key(1), "RS256"))


def test_a_new_key_is_looked_for_when_a_token_names_it_and_not_more_than_every_ten_seconds(world: World) -> None:
    new = token(claims(NOW), rsa_key(2), kid="rsa2")
    publish(world.jwks, public_rsa(1), public_rsa(2))
    assert "publishes no key of its 'kid'" in world.refusal(new)
    world.clock.advance(timedelta(seconds=9))
    world.look()
    assert "publishes no key of its 'kid'" in world.refusal(new)
    world.clock.advance(timedelta(seconds=1))
    world.look()
    assert world.grant(new).principal == "scoring"


def test_without_such_a_token_the_keys_are_looked_at_every_five_minutes(world: World) -> None:
    old = token(claims(NOW))
    assert world.grant(old).principal == "scoring"
    publish(world.jwks, public_rsa(2))  # the old key is withdrawn
    world.clock.advance(timedelta(seconds=299))
    world.look()
    assert world.grant(old).principal == "scoring"
    world.clock.advance(timedelta(seconds=1))
    world.look()
    assert "publishes no key" in world.refusal(old)  # though it was remembered


@pytest.mark.parametrize("broken", ["", "{", '{"keys": 1}', '{"keys": [{"kid": "a", "kty": "RSA", "n": "AQAB", "e": 7}]}', None])
def test_what_cannot_be_read_leaves_the_keys_as_they_were(world: World, broken: str | None, caplog: pytest.LogCaptureFixture) -> None:
    if broken is None:
        world.jwks.unlink()
    else:
        world.jwks.write_text(broken)
    world.clock.advance(timedelta(minutes=5))
    world.look()
    assert world.grant(token(claims(NOW))).principal == "scoring"
    assert "keeping the issuer's keys known so far" in caplog.text


def test_keys_for_other_uses_and_private_ones_verify_nothing(world: World) -> None:
    private = jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key(1), as_dict=True) | {"kid": "rsa1"}
    for key in (public_rsa(1, use="enc"), public_rsa(1, alg="RSA-OAEP"), private, {**public_rsa(1), "kid": 1}, {"kid": "rsa1"}):
        publish(world.jwks, key)
        world.clock.advance(timedelta(minutes=5))
        world.look()
        assert "publishes no key" in world.refusal(token(claims(world.clock.now())))


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_a_short_key_and_a_curve_of_another_algorithm_verify_nothing(world: World) -> None:
    short, other = rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP384R1())
    publish(
        world.jwks,
        jwt.algorithms.RSAAlgorithm.to_jwk(short.public_key(), as_dict=True) | {"kid": "short"},
        jwt.algorithms.ECAlgorithm.to_jwk(other.public_key(), as_dict=True) | {"kid": "p384"},
    )
    world.clock.advance(timedelta(minutes=5))
    world.look()
    assert world.refusal(token(claims(world.clock.now()), short, kid="short"))
    assert world.refusal(token(claims(world.clock.now()), other, "ES384", kid="p384"))


def test_no_more_than_ten_thousand_tokens_are_remembered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.serving.jwt_access._REMEMBERED", 3)
    bearers = [token(claims(NOW, jti=str(n))) for n in range(5)]
    for _ in range(2):
        assert {world.grant(bearer).principal for bearer in bearers} == {"scoring"}
        assert len(world.access._verified) == 3


@pytest.fixture
def issuer() -> Iterator[tuple[str, dict[str, Any]]]:
    """The URL of an issuer's keys, and what it answers there."""
    answer: dict[str, Any] = {"status": 200, "body": {"keys": [public_rsa(1)]}, "asked": 0}

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer["asked"] += 1
            self.send_response(answer["status"])
            self.end_headers()
            self.wfile.write(json.dumps(answer["body"]).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Keys)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/jwks.json", answer
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_gateway_lets_in_keys_and_tokens_and_asks_the_issuer_for_neither(tmp_path: Path, issuer: tuple[str, dict[str, Any]]) -> None:
    url, answer = issuer
    settings = GatewaySettings(port=0, refresh_s=3600, jwt=JwtSettings(issuer=ISSUER, audience=AUDIENCE, jwks=url))
    now = datetime.now(UTC)  # tokens are judged by the machine's clock, whatever time values are judged at

    async def run() -> None:
        async with running_gateway(tmp_path, gateway=settings) as running, httpx.AsyncClient(base_url=running.url) as http:

            async def ask(service: str, bearer: str) -> tuple[int, str]:
                body = {"service": service, "entities": []}
                response = await http.post("/v1/features", json=body, headers={"authorization": f"Bearer {bearer}"})
                assert ("www-authenticate" in response.headers) == (response.status_code == 401)
                return response.status_code, response.json().get("error", {}).get("code", "")

            good, other = token(claims(now)), token(claims(now), rsa_key(2), kid="rsa2")
            assert await ask("carriers", good) == (200, "")
            assert await ask("all_features", good) == (403, "not_authorized")
            assert await ask("all_features", running.key) == (200, "")
            assert await ask("carriers", token(claims(now, exp=now.timestamp() - 60))) == (401, "not_authenticated")
            answer["status"] = 500
            assert await ask("carriers", other) == (401, "not_authenticated")
            await running.gateway.refresh()
            assert await ask("carriers", good) == (200, "")
            assert answer["asked"] == 1  # at the start; the next look is ten seconds later

    asyncio.run(run())


def test_an_issuer_that_does_not_answer_keeps_no_gateway_from_starting(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nobody = "http://127.0.0.1:9/jwks.json"
    settings = GatewaySettings(port=0, refresh_s=3600, jwt=JwtSettings(issuer=ISSUER, audience=AUDIENCE, jwks=nobody))

    async def run() -> None:
        async with running_gateway(tmp_path, gateway=settings) as running, httpx.AsyncClient(base_url=running.url) as http:
            assert (await http.get("/readyz")).status_code == 200

    asyncio.run(run())
    assert f"gateway.jwt.jwks, {nobody}: ConnectError" in caplog.text


def test_a_digest_is_that_of_the_token(world: World) -> None:
    bearer = token(claims(NOW))
    assert world.grant(bearer).sha256 == sha256(bearer.encode()).hexdigest()
