"""The code of a request-time function: one module that imports numpy and `penstock.contract` alone, known by its text.

What runs is made from the text that was read, here, in Spark's tasks and in the gateway: what has a fingerprint is what is run.
"""

import ast
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

from penstock.contract.fingerprint import digest, without_docstrings
from penstock.errors import ContractError, FunctionError

if TYPE_CHECKING:  # what defines and what serves features can do without numpy
    import numpy as np

Columns: TypeAlias = "Mapping[str, np.ndarray[Any, np.dtype[Any]]]"
"""What a request-time function takes and gives: name → a column, one value per row."""

_ALLOWED = ("numpy", "penstock.contract")
_BUILT_IN = ("__import__", "eval", "exec", "open")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*):([A-Za-z_][A-Za-z0-9_]*)")


@dataclass(frozen=True)
class FunctionSource:
    """A function and the text of its module.

    Args:
        name: `<module>:<function>`, without the packages the module is in.
        text: the module's.
        path: where it was read, for tracebacks.
    """

    name: str
    text: str
    path: str

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the code of the module, not with a comment or docstring, and with the major version of numpy; 16 digits."""
        tree = ast.parse(self.text)
        without_docstrings(tree)
        return digest([ast.unparse(tree), version("numpy").partition(".")[0]])[:16]

    def load(self) -> Callable[[Columns], Columns]:
        """The function, of a module made from the text.

        Raises:
            FunctionError: the text cannot be run, or defines no such function.
        """
        return _loaded(self)


def source_of(function: object, where: str) -> FunctionSource:
    """The text of a function's module, as it is in its file.

    Raises:
        ContractError: not a function defined at the top of a module, or of one that imports more than it may, or the file was
            changed since it was imported and has it no more.
    """
    if not isinstance(function, FunctionType) or not _NAME.fullmatch(f"m:{function.__qualname__}"):
        raise ContractError(f"{where}: compute={function!r} is not a function made with def at the top of a module")
    path = inspect.getsourcefile(function)
    name = f"{function.__module__.rpartition('.')[2]}:{function.__name__}"
    if path is None or not Path(path).is_file() or not _NAME.fullmatch(name):
        raise ContractError(
            f"{where}: the module of {function.__module__}.{function.__qualname__} is no file; the gateway loads it from one"
        )
    source = read_source(Path(path), name)
    _require_pure(source, where)
    try:
        source.load()
    except FunctionError as error:
        raise ContractError(f"{where}: {error.message}", hint="the file is not as it was imported: start anew") from None
    return source


def read_source(path: Path, name: str) -> FunctionSource:
    """A function of the module in a file, not looked at."""
    return FunctionSource(name, path.read_text(encoding="utf-8"), str(path))


def module_of(name: str) -> str:
    """The module in a function's name.

    Raises:
        FunctionError: it is no name of a function; as a file's it could lead anywhere.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise FunctionError(f"function {name[:80]!r}: expected <module>:<function>")
    return found[1]


def _require_pure(source: FunctionSource, where: str) -> None:
    for node in ast.walk(ast.parse(source.text)):
        if isinstance(node, ast.Name) and node.id in _BUILT_IN:
            raise ContractError(
                f"{where}: {source.path}, line {node.lineno} uses {node.id}; a request-time function computes from its columns alone"
            )
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        imported = [one.name for one in node.names] if isinstance(node, ast.Import) else ["." * node.level + (node.module or "")]
        for module in imported:
            if module.partition(".")[0] != "numpy" and module not in _ALLOWED:
                raise ContractError(
                    f"{where}: {source.path}, line {node.lineno} imports {module!r} ({ast.unparse(node)}); the module of a request-time"
                    f" function imports {' and '.join(_ALLOWED)} alone, because the gateway runs it",
                    hint="move the function to a module of its own, in feature_functions/",
                )


@lru_cache(maxsize=256)
def _loaded(source: FunctionSource) -> Callable[[Columns], Columns]:
    module_name, _, function_name = source.name.partition(":")
    module = ModuleType(module_name)
    module.__file__ = source.path
    try:
        exec(compile(source.text, source.path, "exec"), vars(module))  # noqa: S102  # the caller has compared its fingerprint
    except Exception as error:
        raise FunctionError(f"{source.path} cannot be loaded: {type(error).__name__}: {error}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise FunctionError(f"{source.path} defines no function '{function_name}'")
    found: Callable[[Columns], Columns] = function
    return found
