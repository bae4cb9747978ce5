"""A disk that is full, told as such: Spark, delta-rs and Python each say it in a way of their own, deep in an error of something else."""

from collections.abc import Iterator
from contextlib import contextmanager

from penstock.errors import LakeFull, PenstockError
from penstock.offline.lake import Lake

_FULL = "No space left on device"


@contextmanager
def told_if_full(lake: Lake) -> Iterator[None]:
    """What runs within raises LakeFull where the lake's disk is full.

    Raises:
        LakeFull: it is.
    """
    try:
        yield
    except PenstockError:
        raise
    except Exception as error:
        if _FULL not in str(error):
            raise
        raise LakeFull(
            f"no space is left on the disk of the lake {lake.uri}; what was not committed is not there",
            hint="free some: `penstock vacuum` lists files of the lake that nothing needs; then run it again",
        ) from error
