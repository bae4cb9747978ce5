"""An issuer of tokens with its own keys."""

import json
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

ISSUER = "https://login.example.test/"
AUDIENCE = "penstock"


@cache
def rsa_key(number: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@cache
def ec_key(number: int) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def public_rsa(number: int, **more: str) -> dict[str, Any]:
    """A key of a JWKS, called `rsa<number>`."""
    return RSAAlgorithm.to_jwk(rsa_key(number).public_key(), as_dict=True) | {"kid": f"rsa{number}", "use": "sig", **more}


def public_ec(number: int) -> dict[str, Any]:
    return ECAlgorithm.to_jwk(ec_key(number).public_key(), as_dict=True) | {"kid": f"ec{number}"}


def publish(path: Path, *keys: dict[str, Any]) -> None:
    path.write_text(json.dumps({"keys": keys}))


def claims(now: datetime, **other: Any) -> dict[str, Any]:
    """Of a good token that is valid for an hour; what is given replaces a claim, None leaves it out."""
    good = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "scoring",
        "exp": int((now + timedelta(hours=1)).timestamp()),
        "penstock_services": ["carriers"],
    }
    return {name: value for name, value in (good | other).items() if value is not None}


def token(said: dict[str, Any], key: Any = None, algorithm: str = "RS256", **header: Any) -> str:
    """`said`, signed by `rsa1` unless told otherwise."""
    return jwt.encode(said, rsa_key(1) if key is None else key, algorithm, headers={"kid": "rsa1", **header})
