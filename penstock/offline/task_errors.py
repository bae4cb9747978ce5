"""An error of ours that a Spark task raised, as itself: Spark hands on its text within a PythonException."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.errors import PythonException

from penstock.errors import SourceError

_OURS = re.compile(r"penstock\.errors\.SourceError: (?P<message>[^\n]*)(?:\n\s*hint: (?P<hint>[^\n]*))?")


@contextmanager
def as_themselves() -> Iterator[None]:
    """What runs within raises a task's SourceError as such.

    Raises:
        SourceError: a task raised it.
    """
    try:
        yield
    except PythonException as error:
        found = _OURS.search(str(error))
        if found is None:
            raise
        raise SourceError(found["message"], hint=found["hint"] or "") from None
