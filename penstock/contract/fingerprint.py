"""A name for what a view computes: it changes with the code or a declared input, not with a comment.

A function is taken as its syntax tree without docstrings and comments, together with the functions and
constants of the same project it refers to. Code of installed packages is named, not read: pin it.
"""

import ast
import hashlib
import inspect
import json
import textwrap
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

from penstock.contract.view import FeatureView


def digest(value: object) -> str:
    """sha256 of a JSON value in canonical form (keys sorted, no spaces), hexadecimal."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def schema_id(view: FeatureView) -> int:
    """What the bytes of an online value mean: names and dtypes in order; 32 bits, in every value's header."""
    columns = [[f.name, f.dtype] for f in view.features]
    return int(digest([view.name, view.version, columns])[:8], 16)


def transformation_fingerprint(view: FeatureView) -> str:
    """What computes the view's rows: its inputs, windows and code."""
    return digest(
        {
            "entity": list(view.entity.join_keys.items()),
            "sources": [
                [s.name, sorted(s.schema.items()), s.event_time, s.availability.column, str(s.availability.at_most)] for s in view.sources
            ],
            "features": [[f.name, f.dtype] for f in view.features],
            "aggregations": [[a.function, a.column, [str(length) for length in a.over], a.name] for a in view.aggregations],
            "every": str(view.every),
            "ttl": str(view.ttl),  # rows are repeated every ttl/2
            "dense": view.dense,
            "lookback": str(view.lookback),
            "delay": str(view.delay),
            "compute": _code_of(view.compute, set()) if view.compute is not None else None,
        }
    )[:16]


def _code_of(function: Callable[..., Any], seen: set[str]) -> object:
    name = f"{function.__module__}.{function.__qualname__}"
    if name in seen:
        return name
    seen.add(name)
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    _drop_docstrings(tree)
    names = sorted(_global_names(function.__code__))
    used = {n: _value_of(function.__globals__[n], function.__module__, seen) for n in names if n in function.__globals__}
    return {"name": name, "code": ast.dump(tree), "uses": used}


def _global_names(code: CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _global_names(constant)
    return names


def _value_of(value: object, module: str, seen: set[str]) -> object:
    project = module.partition(".")[0]
    if isinstance(value, FunctionType) and value.__module__.partition(".")[0] == project:
        return _code_of(value, seen)
    if inspect.ismodule(value):
        return f"module {value.__name__}"
    if callable(value):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    return repr(value)


def _drop_docstrings(tree: ast.AST) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
