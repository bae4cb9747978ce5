"""An error of ours that a Spark task raised, as itself: Spark hands on its text within a PythonException."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.errors import PythonException

from penstock.errors import FunctionError, SourceError

_KINDS = {kind.__name__: kind for kind in (SourceError, FunctionError)}
_OURS = re.compile(r"penstock\.errors\.(?P<kind>SourceError|FunctionError): (?P<message>[^\n]*)(?:\n\s*hint: (?P<hint>[^\n]*))?")


@contextmanager
def as_themselves() -> Iterator[None]:
    """What runs within raises a task's SourceError or FunctionError as such.

    Raises:
        SourceError, FunctionError: a task raised it.
    """
    try:
        yield
    except PythonException as error:
        found = _OURS.search(str(error))
        if found is None:
            raise
        raise _KINDS[found["kind"]](found["message"], hint=found["hint"] or "") from None
