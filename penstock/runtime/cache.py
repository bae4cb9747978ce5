"""The folder where Penstock keeps what it can make again: jars, a Java shim, trust stores."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from penstock.errors import RuntimeSetupError


def user_cache() -> Path:
    """`$XDG_CACHE_HOME/penstock`, by default `~/.cache/penstock`; made if it is not there.

    Raises:
        RuntimeSetupError: the folder cannot be made.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # A relative XDG_CACHE_HOME is invalid and is to be ignored (XDG Base Directory Specification).
    folder = (base if base.is_absolute() else Path("~/.cache").expanduser()) / "penstock"
    return make_folder(folder, hint="set XDG_CACHE_HOME to a folder you may write to")


def make_folder(folder: Path, *, hint: str) -> Path:
    """`folder`, made with its parents if it is not there.

    Raises:
        RuntimeSetupError: the folder cannot be made; carries `hint`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RuntimeSetupError(f"cannot make the folder {folder}: {error.strerror}", hint=hint) from None
    return folder


def write_atomically(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Put `content` at `path`; a reader finds the old content or the new, never a part of it."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        part.write_bytes(content)
        part.chmod(mode)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def one_at_a_time(lock: Path) -> Iterator[None]:
    """Let one process at a time into the block; the others wait. A process that dies lets go of the lock."""
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
