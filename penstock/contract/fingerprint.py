"""A name for what a view computes: it changes with the code or a declared input, not with a comment.

A function is taken as its syntax tree without docstrings and comments, together with the functions and
constants of the same project it refers to. Code of installed packages is named, not read: pin it.
"""

import ast
import hashlib
import inspect
import json
import re
import textwrap
from types import CodeType, FunctionType

from penstock.contract.view import FeatureView
from penstock.errors import ContractError

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


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
            "aggregations": [
                [a.function, a.column, [str(length) for length in a.over], a.name, *([] if a.rank is None else [a.rank])]
                for a in view.aggregations
            ],
            "every": str(view.every),
            **({} if view.tiles is None else {"tiles": str(view.tiles)}),  # sums of floats have another order
            "ttl": str(view.ttl),  # rows are repeated every ttl/2
            "dense": view.dense,
            "lookback": str(view.lookback),
            "delay": str(view.delay),
            "rows": view.rows is not None,
            "compute": _code_of(view.compute, set()) if isinstance(view.compute, FunctionType) else None,
        }
    )[:16]


def contract_fingerprint(view: FeatureView) -> str:
    """What its days are held to: by other rules, a day that was refused may pass."""
    rules = [
        [rule.name, rule.kind.value, rule.feature, repr(rule.bound), [repr(one) for one in rule.allowed], rule.closed_days_only, rule.warns]
        for rule in view.row_rules
    ]
    return digest([rules, view.skew.hold_back])[:16]


def _code_of(function: FunctionType, seen: set[str]) -> object:
    name = f"{function.__module__}.{function.__qualname__}"
    if name in seen:
        return name
    seen.add(name)
    names = _names_in(function.__code__)
    free = dict(zip(function.__code__.co_freevars, (cell.cell_contents for cell in function.__closure__ or ()), strict=True))
    scope = {**{n: function.__globals__[n] for n in names if n in function.__globals__}, **free}
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    return {
        "name": name,
        "code": _syntax_of(function),
        "uses": {n: _value_of(value, function.__module__, names, seen) for n, value in sorted(scope.items())},
        "defaults": [_value_of(value, function.__module__, names, seen) for value in defaults],
    }


def _syntax_of(function: FunctionType) -> str:
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except OSError:
        raise ContractError(f"the code of {function.__qualname__} cannot be read; define it in a file or a notebook cell") from None
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return source  # a lambda stands within a statement that is not its own
    without_docstrings(tree)
    return ast.unparse(tree)  # not ast.dump: its form changes with every version of Python


def _names_in(code: CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names_in(constant)
    return names


def _value_of(value: object, module: str, names: set[str], seen: set[str]) -> object:
    """What a value contributes: the same in every process, so no addresses, and sets in order."""
    project = module.partition(".")[0]
    if isinstance(value, FunctionType) and value.__module__.partition(".")[0] == project:
        return _code_of(value, seen)
    if inspect.ismodule(value):
        of_ours = value.__name__.partition(".")[0] == project
        used = {n: _value_of(vars(value)[n], module, names, seen) for n in sorted(names) if n in vars(value)} if of_ours else {}
        return [f"module {value.__name__}", used]
    if callable(value):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    if isinstance(value, list | tuple):
        return [_value_of(item, module, names, seen) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(repr(item) for item in value)
    if isinstance(value, dict):
        return [[repr(key), _value_of(item, module, names, seen)] for key, item in value.items()]
    return _ADDRESS.sub("", repr(value))


def without_docstrings(tree: ast.AST) -> None:
    """Take the docstrings of modules, functions and classes out of a syntax tree."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
