"""Typed clients as text: of each feature service a key, a row and two classes, so that a changed contract breaks a type check.

The same descriptions give the same bytes, laid out as a formatter leaves them.
"""

import keyword
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import wrap

_TYPES = {
    "bool": "bool",
    "int32": "int",
    "int64": "int",
    "float32": "float",
    "float64": "float",
    "string": "str",
    "timestamp": "datetime",
    "date": "date",
    "binary": "bytes",
}
_HEADER = '''"""Typed clients of feature services.

Made by `penstock sdk generate`, which makes it anew; do not edit.
"""
'''
_WIDTH = 88  # most formatters' default, which then leave the file as it is


@dataclass(frozen=True)
class Described:
    """What is needed to know of a service.

    Args:
        name: of the service.
        contract: its fingerprint.
        description: one sentence, or nothing.
        join_keys, features: name → dtype.
    """

    name: str
    contract: str
    description: str
    join_keys: dict[str, str]
    features: dict[str, str]


def module_of(services: Iterable[Described]) -> str:
    """The text of a Python module."""
    ordered = sorted(services, key=lambda service: service.name)
    types = {_type(dtype) for service in ordered for dtype in (*service.join_keys.values(), *service.features.values())}
    times = [name for name in ("date", "datetime") if types & {name, f"list[{name}]"}]
    imports = ["from dataclasses import dataclass", *([f"from datetime import {', '.join(times)}"] if times else [])]
    imports += ["", "from penstock.sdk.typed import AsyncTypedService, TypedService"]
    return "\n".join([_HEADER, *imports, *(_service(service) for service in ordered)]) + "\n"


def _service(service: Described) -> str:
    title = "".join(part.capitalize() for part in service.name.split("_"))
    names = [f'"{_attribute(name)}": "{name}"' for name in (*service.join_keys, *service.features) if _attribute(name) != name]
    constants = [f'    SERVICE = "{service.name}"', f'    CONTRACT = "{service.contract}"', f"    ROW = {title}Row"]
    constants += [f"    NAMES = {{{', '.join(names)}}}"] if names else []
    about = [f'    """Feature service `{service.name}`."""']
    if service.description:
        text = wrap(_escaped(service.description), _WIDTH - 4)
        about = [about[0][:-3], "", *(f"    {line}" for line in text), '    """']
    return "\n".join(
        [
            *_fields(f"{title}Key", f"A key of `{service.name}`; None is nobody.", service.join_keys),
            *_fields(f"{title}Row", f"A row of `{service.name}`; None is null.", service.features),
            *_class(title, "TypedService", title, about, constants),
            *_class(f"Async{title}", "AsyncTypedService", title, [f'    """As `{title}`, to be awaited."""'], constants),
        ]
    )


def _fields(name: str, about: str, columns: dict[str, str]) -> list[str]:
    body = [f"    {_attribute(column)}: {_type(dtype)} | None" for column, dtype in columns.items()]
    return ["", "", "@dataclass(frozen=True, kw_only=True, slots=True)", f"class {name}:", f'    """{about}"""', "", *body]


def _class(name: str, base: str, title: str, about: Sequence[str], constants: Sequence[str]) -> list[str]:
    key, row = f"{title}Key", f"{title}Row"
    head = [f"class {name}({base}[{key}, {row}]):"]
    if len(head[0]) > _WIDTH:
        head = [f"class {name}(", f"    {base}[{key}, {row}]", "):"]
    if len(head[1 % len(head)]) > _WIDTH:
        head = [f"class {name}(", f"    {base}[", f"        {key},", f"        {row},", "    ]", "):"]
    return ["", "", *head, *about, "", *constants]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', "'").replace("\n", " ")


def _attribute(name: str) -> str:
    """A name as an attribute: Python's own words get a `_`."""
    return f"{name}_" if keyword.iskeyword(name) else name


def _type(dtype: str) -> str:
    return f"list[{_TYPES[dtype[5:-1]]}]" if dtype.startswith("list[") else _TYPES[dtype]
