"""Typed modules for models' code: what `penstock sdk generate` writes.

One contract gives one text, whoever asks for it, laid out so that `ruff format` and Black leave it as it is at their line length
and any greater one: what has several parts ends with a comma, and has one on each line.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from keyword import iskeyword

import msgspec

from penstock.errors import ContractError
from penstock.sdk.description import DescribedFeature, ServiceDescription

_MODULE = '''\
"""Feature services and the contracts they are asked under.

{contracts}

Made by `{command}`: make it again, do not edit it.
"""

# ruff: noqa
from dataclasses import dataclass
{times}from typing import Literal, TypeAlias, TypedDict

from penstock.sdk.service import Service
from penstock.sdk.typed import AsyncTypedService, TypedRow, TypedService


{services}
'''

_SERVICE = '''\
{names}


{keys_class}


@dataclass(frozen=True, kw_only=True)
class {row}(
    TypedRow[{feature}],
):
    """The features of `{service}` for one entity."""

{attributes}


class {base}(
    TypedService[
        {keys},
        {row},
    ],
):
    """The feature service `{service}`, asked through a `FeatureClient`."""

    service = Service(
        name="{service}",
        contract="{contract}",
        fields={fields},
        features={features},
    )
    row = {row}

    def get{arguments} -> {row}:
        """The features of one entity."""
        entity: {keys} = {entity}
        return self.get_many([entity])[0]


class {later}(
    AsyncTypedService[
        {keys},
        {row},
    ],
):
    """The feature service `{service}`, asked through an `AsyncFeatureClient`."""

    service = {base}.service
    row = {row}

    async def get{arguments} -> {row}:
        """The features of one entity."""
        entity: {keys} = {entity}
        return (await self.get_many([entity]))[0]'''

_KEYS = '''\
class {keys}(TypedDict):
    """What names an entity of `{service}`; of a null key nothing is known."""

{lines}'''

_ODD_KEYS = """\
# What names an entity of `{service}`; of a null key nothing is known.
{keys} = TypedDict(
    "{keys}",
    {{
{lines}
    }},
)"""

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
_IMPORTED = ("AsyncTypedService", "Literal", "Service", "TypeAlias", "TypedDict", "TypedRow", "TypedService")
_OF_ROWS = ("answer", "detail")  # what every row has
_WIDTH = 88
_MOST = 60  # characters of a default that are shown


def generate(services: Sequence[ServiceDescription], command: str) -> str:
    """The module's text.

    Args:
        services: in any order; each once.
        command: what makes it again, for its header.

    Raises:
        ContractError: a name that no feature service has; it would be code.
    """
    odd = [service.name for service in services if not re.fullmatch(r"\w+", f"{service.name}{service.contract}")]
    if odd:
        raise ContractError(f"{', '.join(map(repr, odd))}: not the name and contract of a feature service")
    found = sorted(services, key=lambda service: service.name)
    taken = set(_IMPORTED)
    width = max((len(service.name) for service in found), default=0)
    times = sorted(set(re.findall(r"\b(?:date|datetime)\b", " ".join(_types(found)))))
    return _MODULE.format(
        contracts="\n".join(f"    {service.name:{width}}  {service.contract}" for service in found),
        command=command,
        times=f"from datetime import {', '.join(times)}\n" if times else "",
        services="\n\n\n".join(_service(service, taken) for service in found),
    )


def _service(service: ServiceDescription, taken: set[str]) -> str:
    base, keys, row, feature, later = _class_names(service.name, taken)
    features = {one.name: one.dtype for one in service.features}
    arguments = dict(zip(service.fields, _attributes(service.fields, ("self",)), strict=True))
    given = [f"{argument}: {_type(service.fields[key])} | None," for key, argument in arguments.items()]
    return _SERVICE.format(
        service=service.name,
        contract=service.contract,
        base=base,
        keys=keys,
        row=row,
        feature=feature,
        later=later,
        names=_names(feature, list(features)),
        keys_class=_keys(service, keys),
        attributes="\n".join(_attribute(name, one) for name, one in zip(_attributes(features, _OF_ROWS), service.features, strict=True)),
        fields=_mapping({key: _text(dtype) for key, dtype in service.fields.items()}),
        features=_mapping({name: _text(dtype) for name, dtype in features.items()}),
        arguments="(\n" + "\n".join(f"        {line}" for line in ["self,", "*,", *given]) + "\n    )" if given else "(self)",
        entity=_mapping(arguments),
    )


def _names(alias: str, features: Sequence[str]) -> str:
    """All features' names as one type."""
    if len(features) == 1:  # a comma behind it would make another type
        return _skipped(f"{alias}: TypeAlias = Literal[{_text(features[0])}]")
    return f"{alias}: TypeAlias = Literal[\n" + "".join(f"    {_text(one)},\n" for one in features) + "]"


def _skipped(line: str) -> str:
    """A line that formatters leave though it is long."""
    return line if len(line) <= _WIDTH else f"{line}  # fmt: skip"


def _keys(service: ServiceDescription, name: str) -> str:
    types = {key: f"{_type(dtype)} | None" for key, dtype in service.fields.items()}
    if all(_identifier(key) == key for key in types):
        lines = "\n".join(f"    {key}: {kind}" for key, kind in types.items())
        return _KEYS.format(keys=name, service=service.name, lines=lines).rstrip()
    lines = "\n".join(f"        {_text(key)}: {kind}," for key, kind in types.items())
    return _ODD_KEYS.format(keys=name, service=service.name, lines=lines)


def _attribute(name: str, feature: DescribedFeature) -> str:
    about = [feature.unit] if feature.unit else []
    if feature.default is not None:
        text = msgspec.json.encode(feature.default).decode()
        about.append(f"default {text if len(text) <= _MOST else text[:_MOST] + '...'}")
    if feature.ttl_s is not None:
        about.append(f"at most {timedelta(seconds=feature.ttl_s)} old")
    # A unit is any text: nothing in it may end the string.
    said = " ".join("".join(c if c.isprintable() else " " for c in "; ".join(about)).replace("\\", "/").replace('"', "'").split())
    return _skipped(f"    {name}: {_type(feature.dtype)} | None") + (f'\n    """{said}"""' if said else "")


def _mapping(values: Mapping[str, str]) -> str:
    """A dict of names and expressions, within two levels."""
    if not values:
        return "{}"
    return "{\n" + "".join(f"            {_text(name)}: {value},\n" for name, value in values.items()) + "        }"


def _types(services: Iterable[ServiceDescription]) -> list[str]:
    return [_type(dtype) for service in services for dtype in (*service.fields.values(), *(one.dtype for one in service.features))]


def _type(dtype: str) -> str:
    """The Python type of a dtype; of one that is not known here, any object."""
    if dtype.startswith("list["):
        return f"list[{_type(dtype[5:-1])}]"
    return _TYPES.get(dtype, "object")


def _class_names(service: str, taken: set[str]) -> tuple[str, str, str, str, str]:
    """Names that no other service of the module has: `a_1` and `a1` both would be `A1`."""
    base = _identifier("".join(part[:1].upper() + part[1:] for part in service.split("_")))
    while taken & (names := {base, f"{base}Keys", f"{base}Row", f"{base}Feature", f"Async{base}"}):
        base += "_"
    taken |= names
    return base, f"{base}Keys", f"{base}Row", f"{base}Feature", f"Async{base}"


def _attributes(names: Iterable[str], reserved: Sequence[str]) -> list[str]:
    """Names for attributes and arguments, in order; one that is taken has `_` behind it."""
    found: list[str] = []
    for name in names:
        attribute = _identifier(name)
        while attribute in reserved or attribute in found:
            attribute += "_"
        found.append(attribute)
    return found


def _identifier(name: str) -> str:
    """The name, if Python can have it; else the same with `_` for other than ASCII letters and digits, and behind a keyword."""
    if name.isascii() and name.isidentifier() and name[0] != "_" and not iskeyword(name):
        return name
    text = re.sub(r"[^A-Za-z0-9_]", "_", name)
    text = text if text[:1].isalpha() else f"x_{text}"
    return f"{text}_" if iskeyword(text) else text


def _text(value: str) -> str:
    return msgspec.json.encode(value).decode()
