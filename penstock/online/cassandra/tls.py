"""What the settings say of TLS, read from files and secrets."""

import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import BadZipFile, ZipFile

from penstock.config import Settings
from penstock.errors import ConfigError


@dataclass(frozen=True, repr=False)  # it holds a private key
class Tls:
    """PEM texts, and whether a node's certificate must name the address it is reached at."""

    authority: str
    certificate: str | None
    key: str | None
    verify_host: bool


def tls_of(settings: Settings) -> Tls | None:
    """What the settings ask for; None: no TLS.

    Raises:
        ConfigError: a file or secret cannot be read.
    """
    cassandra = settings.cassandra
    if cassandra.tls_ca is None:
        return None
    path = settings.path(cassandra.tls_ca)
    try:
        authority = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cassandra.tls_ca: {path} cannot be read: {getattr(error, 'strerror', None) or 'it is not PEM text'}") from None
    certificate, key = (None if secret is None else secret.reveal() for secret in (cassandra.tls_certificate, cassandra.tls_key))
    return Tls(authority, certificate, key, cassandra.tls_verify_host)


def ssl_context(tls: Tls) -> ssl.SSLContext:
    """The same for Python's own TLS.

    Raises:
        ConfigError: a text is not PEM, or the key is not the certificate's.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = tls.verify_host
    try:
        context.load_verify_locations(cadata=tls.authority)
    except ssl.SSLError as error:
        raise ConfigError(f"cassandra.tls_ca is not a PEM certificate: {error.reason}") from None
    if tls.certificate is not None and tls.key is not None:
        with TemporaryDirectory(prefix="penstock-tls-") as folder:  # Python takes files only; the folder is ours alone
            paths = Path(folder) / "certificate.pem", Path(folder) / "key.pem"
            for path, text in zip(paths, (tls.certificate, tls.key), strict=True):
                path.write_text(text, encoding="ascii")
            try:
                context.load_cert_chain(*paths)
            except ssl.SSLError as error:
                raise ConfigError(f"cassandra.tls_certificate and tls_key are not a PEM pair: {error.reason}") from None
    return context


def bundle_context(path: Path) -> ssl.SSLContext:
    """TLS as a secure-connect bundle wants it.

    The authority is the database's own. Nodes are told apart by a name in the handshake that their certificates do not hold.

    Raises:
        ConfigError: it is no such bundle.
    """
    try:
        with ZipFile(path) as bundle:
            authority, certificate, key = (bundle.read(name).decode("ascii") for name in ("ca.crt", "cert", "key"))
    except (OSError, BadZipFile, KeyError, UnicodeDecodeError) as error:
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise ConfigError(f"cassandra.secure_connect_bundle: {path} is not a secure-connect bundle: {why}") from None
    return ssl_context(Tls(authority, certificate, key, verify_host=False))
