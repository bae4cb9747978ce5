"""The way to a gateway: its address, the proxy and certificates on it, headers, and what a failure on it means.

proxies        HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, as other programs read them
certificates   `tls`, else those in SSL_CERT_FILE or SSL_CERT_DIR, else certifi's
"""

import os
import re
import ssl
from dataclasses import dataclass
from random import uniform
from typing import Any, Protocol
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore

from penstock.errors import ConfigError, Unavailable

MSGPACK = "application/msgpack"
ON_THE_WAY = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, httpcore.ProxyError)
"""What is raised when a request got no answer."""

IS_IT_RUNNING = "is it running? see its /readyz"
_WHOSE_CERTIFICATE = (
    "of a company's own authority give its certificate: SSL_CERT_FILE=ca.pem, or tls=ssl.create_default_context(cafile=...)"
)

_FOR_NOW = (429, 503)
_PAUSE_S = 0.05
_FOR_THE_GATEWAY = 0.9  # of the time left: the rest is for the way there and back
_CONNECTIONS = 100
_IDLE_S = 5.0  # the gateway keeps them longer, so that it closes none as a request is sent on it

Headers = list[tuple[bytes, bytes]]


class Secret(Protocol):
    """A reference to a secret, e.g. one of the settings'; read when it is used."""

    def reveal(self) -> str: ...


@dataclass(frozen=True)
class Route:
    """How a gateway is reached.

    Args:
        gateway: its address, for people.
        to: its address.
        headers: of every request.
        pool: the arguments of httpcore's connection pools.
    """

    gateway: str
    to: SplitResult
    headers: Headers
    pool: dict[str, Any]

    def url(self, path: str) -> httpcore.URL:
        """The address of one of its paths; an address that itself has a path is put before it."""
        host = self.to.hostname or ""
        return httpcore.URL(scheme=self.to.scheme, host=host, port=self.to.port, target=self.to.path.rstrip("/") + path)

    def headers_within(self, left_s: float) -> Headers:
        """The headers of a request that can wait so long; they tell the gateway when its answer is of no more use."""
        return [*self.headers, (b"x-deadline-ms", str(max(1, int(left_s * _FOR_THE_GATEWAY * 1000))).encode())]

    def unreachable(self, error: Exception) -> Unavailable:
        """What a caller is told of a failure on the way."""
        if isinstance(error, httpcore.TimeoutException | TimeoutError):
            return Unavailable(f"the gateway at {self.gateway} did not answer in time", hint=IS_IT_RUNNING)
        hint = _WHOSE_CERTIFICATE if "CERTIFICATE_VERIFY_FAILED" in str(error) else IS_IT_RUNNING
        return Unavailable(f"the gateway at {self.gateway} cannot be reached: {error or type(error).__name__}", hint=hint)


def route_to(url: str, api_key: str | Secret | None, tls: ssl.SSLContext | None) -> Route:
    """The way to the gateway at `url`.

    Raises:
        ConfigError: the address, the key or a proxy's address cannot be right.
    """
    to = _address(url, "gateway url")
    host = to.netloc.rpartition("@")[2]
    headers = [(b"host", host.encode()), (b"content-type", b"application/json"), (b"accept", MSGPACK.encode())]
    if to.username is not None:
        raise ConfigError(f"gateway url with a user name, at {host}: expected none", hint="give the key as api_key=")
    if api_key is not None:
        headers.append((b"authorization", b"Bearer " + _key(api_key if isinstance(api_key, str) else api_key.reveal())))
    pool = {
        "ssl_context": _certificates(tls) if to.scheme == "https" else None,
        "proxy": _proxy(to),
        "max_connections": _CONNECTIONS,
        "keepalive_expiry": _IDLE_S,
    }
    return Route(url, to, headers, pool)


def pause(response: httpcore.Response) -> float | None:
    """How long to wait before asking again what was refused for now; None: it need not be asked again."""
    after = next((value for name, value in response.headers if name.lower() == b"retry-after"), b"")
    return float(after) if response.status in _FOR_NOW and after.isdigit() else None


def pause_after(error: Exception) -> float | None:
    """The same after a failure on the way, which may have been sent: reading twice does no harm. What took its time will again."""
    return None if isinstance(error, httpcore.TimeoutException) else uniform(0.5, 1.5) * _PAUSE_S  # noqa: S311  # nobody must not guess it


def _address(url: str, what: str) -> SplitResult:
    shown = re.sub(r"//[^/]*@", "//", url)  # without what may be a password
    try:
        to = urlsplit(url)
        host = to.hostname
        _ = to.port  # looked at for the first time, it is checked
    except ValueError as error:
        raise ConfigError(f"{what} {shown!r}: {error}") from None
    if to.scheme not in ("http", "https") or not host:
        raise ConfigError(f"{what} {shown!r}: expected one that begins with http:// or https://")
    if not host.isascii():
        raise ConfigError(f"{what} {shown!r}: a host's name is ASCII", hint="write it as it is looked up: xn--...")
    return to


def _key(key: str) -> bytes:
    if not (key and key.isascii() and key.isprintable() and " " not in key):
        raise ConfigError("the API key is empty or has a space, a line break or another character that none has; it is not shown here")
    return key.encode()


def _certificates(given: ssl.SSLContext | None) -> ssl.SSLContext:
    if given is not None:
        return given
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if not file and not folder:
        return httpcore.default_ssl_context()
    try:
        return ssl.create_default_context(cafile=file or None, capath=folder or None)
    except OSError as error:
        raise ConfigError(
            f"certificates in {file or folder}: {error.strerror or error}", hint="SSL_CERT_FILE or SSL_CERT_DIR names them"
        ) from None


def _proxy(to: SplitResult) -> httpcore.Proxy | None:
    found = getproxies()
    given = found.get(to.scheme) or found.get("all")
    host = to.hostname or ""
    if not given or proxy_bypass(host if to.port is None else f"{host}:{to.port}"):
        return None
    proxy = _address(given if "://" in given else f"http://{given}", f"proxy of the environment for {to.scheme}")
    auth = None if proxy.username is None else (unquote(proxy.username), unquote(proxy.password or ""))
    return httpcore.Proxy(httpcore.URL(scheme=proxy.scheme, host=proxy.hostname or "", port=proxy.port, target="/"), auth=auth)
