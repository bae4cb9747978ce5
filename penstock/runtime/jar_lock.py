"""The lock: for every jar Penstock downloads, the sha256 and size it must have.

Under the Maven coordinate that was resolved, one line per jar: sha256, bytes, file name.

    [delta io.delta:delta-spark_4.2_2.13:4.4.0]
    27d4fd8b…  9515916  delta-spark_4.2_2.13-4.4.0.jar
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from penstock.config import Settings
from penstock.errors import RuntimeSetupError

JarKind = Literal["delta", "cassandra"]
KINDS: tuple[JarKind, ...] = ("delta", "cassandra")

SHIPPED_LOCK = Path(__file__).with_name("jars.lock")

_HEADER = """\
# Every jar Penstock downloads: sha256, bytes, file name; per part, the Maven coordinate that was resolved.
# Made by `penstock jars lock`. penstock/runtime/jars.lock is the one that is shipped, conf/jars.lock a copy.
"""


@dataclass(frozen=True)
class LockedJar:
    """One jar as it must be."""

    sha256: str
    size: int
    name: str


@dataclass(frozen=True)
class LockedJars:
    """The jars that one Maven coordinate resolves to, by name."""

    kind: JarKind
    coordinate: str
    jars: tuple[LockedJar, ...]

    @property
    def version(self) -> str:
        return self.coordinate.rpartition(":")[2]

    def text(self) -> str:
        """This part of the lock file, as it is written."""
        lines = (f"{jar.sha256}  {jar.size:>9}  {jar.name}\n" for jar in self.jars)
        return f"[{self.kind} {self.coordinate}]\n" + "".join(lines)

    def digest(self) -> str:
        """Changes whenever a jar's name, size or sha256 does."""
        return hashlib.sha256(self.text().encode()).hexdigest()


def locked_jars(settings: Settings, kind: JarKind) -> LockedJars:
    """What the lock says about the jars of the configured coordinate.

    Raises:
        RuntimeSetupError: the lock cannot be read, or was made for another coordinate.
    """
    path = lock_path(settings)
    coordinate = configured_coordinate(settings, kind)
    parts = _parse(path)
    part = next((each for each in parts if each.kind == kind), None)
    if part is None or part.coordinate != coordinate:
        held = "nothing" if part is None else f"'{part.coordinate}'"
        raise RuntimeSetupError(
            f"jars.{kind} is '{coordinate}', but the lock {path} holds {held} for {kind}",
            hint=f"set jars.{kind} to what the lock holds, or give jars.lock a path and write a lock there with `penstock jars lock`",
        )
    return part


def lock_path(settings: Settings) -> Path:
    """The configured lock, else the one shipped with Penstock."""
    return SHIPPED_LOCK if settings.jars.lock is None else settings.path(settings.jars.lock)


def configured_coordinate(settings: Settings, kind: JarKind) -> str:
    """The Maven coordinate, `group:artifact:version`, of the settings.

    Raises:
        RuntimeSetupError: it has another shape.
    """
    coordinate = settings.jars.delta if kind == "delta" else settings.jars.cassandra
    # It becomes a folder's name and part of an XML file: nothing but what Maven itself allows.
    if not re.fullmatch(r"[\w.-]+:[\w.-]+:\w[\w.-]*", coordinate):
        raise RuntimeSetupError(f"jars.{kind} is '{coordinate}', expected a Maven coordinate, group:artifact:version")
    return coordinate


def measure(kind: JarKind, coordinate: str, folder: Path) -> LockedJars:
    """The lock of the jars that lie in `folder`."""
    paths = sorted(folder.glob("*.jar"), key=lambda path: path.name)
    return LockedJars(kind, coordinate, tuple(LockedJar(sha256_of(path), path.stat().st_size, path.name) for path in paths))


def lock_text(parts: list[LockedJars]) -> str:
    """A whole lock file."""
    return _HEADER + "".join("\n" + part.text() for part in parts)


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parse(path: Path) -> list[LockedJars]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        hint = "leave jars.lock empty to use Penstock's own"
        raise RuntimeSetupError(f"cannot read the lock {path}: {error.strerror}", hint=hint) from None
    parts: list[tuple[JarKind, str, list[LockedJar]]] = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or line.startswith("#"):
            continue
        heading = re.fullmatch(r"\[(\w+) (\S+)\]", line.strip())
        kind = next((each for each in KINDS if heading and each == heading[1]), None)
        if heading and kind:
            parts.append((kind, heading[2], []))
        elif parts and re.fullmatch(r"[0-9a-f]{64} +[0-9]+ +[^\s/\\]+\.jar", line.strip()):
            parts[-1][2].append(LockedJar(words[0], int(words[1]), words[2]))
        else:
            message = f"the lock {path}, line {number}: expected '[kind coordinate]' or 'sha256 bytes name.jar', found '{line}'"
            raise RuntimeSetupError(message)
    return [LockedJars(kind, coordinate, tuple(jars)) for kind, coordinate, jars in parts]
