"""A second real node: TLS with client certificates, users and rights, and the guardrail that forbids our write tokens to ordinary roles."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from time import monotonic
from typing import Any

import psutil
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from penstock.config import CassandraSettings, Settings
from penstock.errors import StoreError
from penstock.online.cassandra import CassandraStore
from penstock.online.cassandra.session import Session, open_session
from penstock.runtime import node_launch
from penstock.runtime.node_ports import choose_ports
from penstock.runtime.node_record import has_ended

SUPERUSER = "cassandra"  # with this password, on every new cluster
_DEADLINE_S = 120

_SECURED = """
client_encryption_options:
  enabled: true
  require_client_auth: true
  ssl_context_factory: {{class_name: org.apache.cassandra.security.PEMBasedSslContextFactory}}
  keystore: {folder}/node.pem
  truststore: {folder}/ca.pem
# As ScyllaDB does for all, unless told not to; superusers are exempt.
maximum_timestamp_fail_threshold: 1d
"""


class Authority:
    """An authority of its own, that signs certificates."""

    def __init__(self, name: str) -> None:
        self._key, self._name = ec.generate_private_key(ec.SECP256R1()), _named(name)
        self._certificate = self._sign(self._name, self._key, x509.BasicConstraints(ca=True, path_length=None))
        self.pem = self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    def issue(self, name: str, *addresses: str) -> tuple[str, str]:
        """A certificate and its key, as PEM; `addresses`: the host names and IP addresses it is for."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.IPAddress(ip_address(each)) if each[0].isdigit() else x509.DNSName(each) for each in addresses]
        named = [x509.SubjectAlternativeName(names)] if names else []
        certificate = self._sign(_named(name), key, x509.BasicConstraints(ca=False, path_length=None), *named)
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode()

    def _sign(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, *extensions: x509.ExtensionType) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(self._name, name, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=2))
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self._key, hashes.SHA256())


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


@dataclass(frozen=True)
class Secured:
    """The node, and what one needs to get in.

    Args:
        folder: a project's; holds ca.pem, client.pem, client.key, and the node's data.
        port: of CQL on 127.0.0.1.
        authority: signed the node's and the client's certificates.
    """

    folder: Path
    port: int
    authority: Authority

    def settings(self, *, keyspace: str = "secured", user: str = SUPERUSER, **changes: Any) -> Settings:
        """Settings of who connects: a superuser with all certificates, unless told otherwise."""
        password = self.folder / f"{user}.password"
        password.write_text(user)
        values = {
            "mode": "external",
            "port": self.port,
            "keyspace": keyspace,
            "username": user,
            "password": f"file:{password}",
            "tls_ca": "ca.pem",
            "tls_certificate": f"file:{self.folder / 'client.pem'}",
            "tls_key": f"file:{self.folder / 'client.key'}",
            **changes,
        }
        return Settings(root=self.folder, cassandra=CassandraSettings(**values))

    def run(self, do: Callable[[CassandraStore], Awaitable[None]], settings: Settings) -> None:
        """Do something with a store of these settings."""

        async def with_store() -> None:
            store = await CassandraStore.connect(settings.cassandra.contact_points, settings.cassandra.port, settings)
            try:
                await do(store)
            finally:
                await store.close()

        asyncio.run(with_store())

    def query(self, *statements: str, settings: Settings | None = None) -> None:
        """Run statements, as the superuser by default."""
        used = settings or self.settings()

        async def run() -> None:
            session: Session[Any] = await open_session(used.cassandra.contact_points, self.port, used)
            try:
                for statement in statements:
                    await session.query(statement)
            finally:
                await session.close()

        asyncio.run(run())


@contextmanager
def secured_node(folder: Path, base: Settings) -> Iterator[Secured]:
    """The node, up; started as every embedded node is, with another cassandra.yaml.

    Args:
        folder: is made a project's folder.
        base: which Java and which jars.
    """
    authority = Authority("penstock tests")
    (folder / "ca.pem").write_text(authority.pem)
    (folder / "node.pem").write_text("".join(reversed(authority.issue("node", "127.0.0.1"))))  # the key, then the certificate
    certificate, key = authority.issue("client")
    (folder / "client.pem").write_text(certificate)
    (folder / "client.key").write_text(key)
    templates, theirs = folder / "templates", node_launch._TEMPLATES
    shutil.copytree(theirs, templates)
    yaml = (templates / "cassandra.yaml").read_text()
    yaml = yaml.replace("AllowAllAuthenticator", "PasswordAuthenticator").replace("AllowAllAuthorizer", "CassandraAuthorizer")
    (templates / "cassandra.yaml").write_text(yaml + _SECURED.format(folder=folder))
    data = folder / "node"
    data.mkdir()
    ports = choose_ports(19542, 1, None)
    node_launch._TEMPLATES = templates
    try:
        process = node_launch.launch(base, data, index=1, ring_size=1, ports=ports)
    finally:
        node_launch._TEMPLATES = theirs
    try:
        node = Secured(folder, ports.cql, authority)
        _await_superuser(node, process, data)
        yield node
    finally:
        process.kill()
        while not has_ended(process):
            pass


def _await_superuser(node: Secured, process: psutil.Process, data: Path) -> None:
    deadline = monotonic() + _DEADLINE_S
    while True:
        try:
            node.query("SELECT role FROM system_auth.roles WHERE role = 'cassandra'")
            return
        except StoreError as error:  # not up, or the superuser is not there yet
            tail = node_launch.log_tail(data)
            assert not has_ended(process), f"the node ended:\n{tail}"
            assert monotonic() < deadline, f"{error}\n{tail}"
