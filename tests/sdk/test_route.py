"""On the way to a gateway: connections are kept, certificates checked, proxies used, and what cannot be right is refused."""

import asyncio
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from penstock.errors import ConfigError, Unavailable
from penstock.sdk import AsyncFeatureClient, FeatureClient
from penstock.serving.gateway import _KEEP_ALIVE_S

ANSWER = {
    "service": "s",
    "contract": "c",
    "snapshot": "f",
    "now_us": 0,
    "token": "p1.",
    "features": ["v__a"],
    "dtypes": ["float64"],
    "views": [{"view": "v", "version": 1, "generation": 1, "complete_until": None, "features": [0]}],
    "rows": 1,
    "values": [[1.5]],
    "statuses": ["PRESENT"],
    "event_times_us": [[0]],
}


class Server(ThreadingHTTPServer):
    """Gives the same answer to everybody, and notes what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.connections = 0
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.closing: set[int] = set()  # the numbers of requests whose answer ends the connection


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        body = msgspec.msgpack.encode(ANSWER)
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        if len(self.server.asked) in self.server.closing:
            self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[Server]:
    with Server() as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


Ask = Callable[..., list[Any]]


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """`ask(url, times=1, **client options)`: the values of one client, or its error."""

    def sync(url: str, times: int = 1, **options: Any) -> list[Any]:
        with FeatureClient(url, **{"timeout_s": 10, **options}) as client:
            return [client.features("s", [{"k": 1}]).columns[0][0] for _ in range(times)]

    def awaited(url: str, times: int = 1, **options: Any) -> list[Any]:
        async def run() -> list[Any]:
            async with AsyncFeatureClient(url, **{"timeout_s": 10, **options}) as client:
                return [(await client.features("s", [{"k": 1}])).columns[0][0] for _ in range(times)]

        return asyncio.run(run())

    return sync if request.param == "sync" else awaited


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def url_of(server: Server, scheme: str = "http") -> str:
    return f"{scheme}://127.0.0.1:{server.server_address[1]}"


def test_requests_after_another_go_over_one_connection(ask: Ask) -> None:
    with serving() as server:
        assert ask(url_of(server), times=5, api_key="key") == [1.5] * 5
        assert (server.connections, len(server.asked)) == (1, 5)
    path, headers = server.asked[0]
    assert path == "/v1/features"
    assert headers["host"] == url_of(server).removeprefix("http://")
    assert headers["authorization"] == "Bearer key"
    assert headers["accept"] == "application/msgpack"
    assert 8500 < int(headers["x-deadline-ms"]) <= 9000  # 0.9 of ten seconds


def test_a_connection_that_the_gateway_ends_with_its_answer_is_not_used_again(ask: Ask) -> None:
    with serving() as server:
        server.closing = {2}
        assert ask(url_of(server), times=4) == [1.5] * 4
        assert (server.connections, len(server.asked)) == (2, 4)  # none was asked twice


def test_threads_share_a_client() -> None:
    with serving() as server, FeatureClient(url_of(server), timeout_s=30) as client:
        found: list[Any] = []
        threads = [Thread(target=lambda: found.extend(client.features("s", [{"k": 1}]).columns[0][0] for _ in range(20))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [1.5] * 160
        assert server.connections <= 8


def test_an_address_with_a_path_is_a_gateway_below_it(ask: Ask) -> None:
    with serving() as server:
        ask(f"{url_of(server)}/features/")
    assert server.asked[0][0] == "/features/v1/features"


def test_a_proxy_of_the_environment_is_used_unless_the_host_is_exempt(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as gateway, serving() as proxy:
        monkeypatch.setenv("HTTP_PROXY", url_of(proxy).replace("//", "//me:p%40ss@"))
        assert ask(f"{url_of(gateway)}/") == [1.5]
        path, headers = proxy.asked[0]
        assert path == f"{url_of(gateway)}/v1/features"
        assert headers["proxy-authorization"] == "Basic bWU6cEBzcw=="  # me:p@ss
        assert gateway.asked == []
        monkeypatch.setenv("NO_PROXY", "example.com,127.0.0.1")
        ask(url_of(gateway))
        assert (len(gateway.asked), len(proxy.asked)) == (1, 1)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """An authority nobody knows: its certificate, and a server's context with one it signed for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a company's own")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(*pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return folder / "ca.pem", context


def test_a_certificate_of_an_unknown_authority_is_refused_with_what_to_do(ask: Ask, authority: tuple[Path, ssl.SSLContext]) -> None:
    with serving(authority[1]) as server, pytest.raises(Unavailable, match=r"CERTIFICATE_VERIFY_FAILED(.|\n)*SSL_CERT_FILE=ca.pem"):
        ask(url_of(server, "https"))
    assert server.asked == []


def test_a_companys_own_authority_is_trusted_when_it_is_named(
    ask: Ask, authority: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(authority[1]) as server:
        assert ask(url_of(server, "https"), times=2, tls=ssl.create_default_context(cafile=authority[0])) == [1.5] * 2
        monkeypatch.setenv("SSL_CERT_FILE", str(authority[0]))
        assert ask(url_of(server, "https")) == [1.5]
        assert server.asked[0][1]["host"] == url_of(server).removeprefix("http://")


def test_certificates_that_are_not_there_are_a_setting_to_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    with pytest.raises(ConfigError, match=r"certificates in /nowhere/ca.pem: No such file"):
        FeatureClient("https://gateway")
    FeatureClient("http://gateway").close()  # needs none


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:8090", "expected one that begins with http:// or https://"),
        ("http://", "expected one that begins with http"),
        ("ftp://gateway", "expected one that begins with http"),
        ("http://gateway:80a", "Port could not be cast"),
        ("http://[::1", "Invalid IPv6 URL"),
        ("http://gätter", "a host's name is ASCII"),
        ("http://me:secret@gateway", r"gateway url with a user name, at gateway: expected none"),
    ],
)
def test_an_address_that_is_none_is_a_setting_to_mend(url: str, message: str) -> None:
    for client in (FeatureClient, AsyncFeatureClient):
        with pytest.raises(ConfigError, match=message) as caught:
            client(url)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", ["", "a key", "key\n", "schlüssel"])
def test_a_key_that_is_none_is_a_setting_to_mend_and_is_not_told(key: str) -> None:
    with pytest.raises(ConfigError, match=r"^the API key is empty or has a space, .*; it is not shown here$"):
        FeatureClient("http://gateway", api_key=key)


def test_a_proxy_that_is_none_is_a_setting_to_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://me:secret@gateway")
    with pytest.raises(ConfigError, match=r"proxy of the environment for https 'socks5://gateway': expected one that begins with http"):
        FeatureClient("https://gateway")


def test_the_gateway_keeps_a_connection_longer_than_a_client() -> None:
    with FeatureClient("http://gateway") as client:
        assert client._route.pool["keepalive_expiry"] < _KEEP_ALIVE_S
