"""Configuration: frozen dataclasses in code, YAML in files, with nothing in between.

A file names fields of the dataclass and of the dataclasses inside it; what it leaves out keeps its
default. What is unknown, missing or of another type is refused, with the path of the field.

Field types may be bool, int, float, str, Path, dataclasses, ``tuple[T, ...]``, ``tuple[T, U]``,
``Mapping[K, T]``, ``Literal`` and unions of these with each other and with None. Of dataclasses in
a union that all have a ``kind``, a ``Literal``, the one is meant whose kind is given.

YAML is read by the core schema of version 1.2, where PyYAML alone has surprises: ``1e-4`` is a
number, ``no`` and ``12:30`` are text, and a key that is given twice is an error.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from everlong.errors import ConfigError

C = TypeVar("C")


def load_config(kind: type[C], path: Path) -> C:
    """Read a configuration from a YAML file.

    Args:
        kind: a dataclass.

    Raises:
        ConfigError: the file cannot be read, or does not describe a ``kind``.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    try:
        return parse_config(kind, text)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def parse_config(kind: type[C], text: str) -> C:
    """A ``kind`` from YAML text; see :func:`load_config`."""
    try:
        data = yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"not valid YAML: {error}") from error
    return from_plain(kind, {} if data is None else data)


def format_config(config: Any) -> str:
    """The YAML text of a dataclass, every field included, in their order.

    :func:`parse_config` reads an equal dataclass from it. To write it into a file is the matter
    of :func:`everlong.files.atomic_write`.
    """
    text: str = yaml.dump(to_plain(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


def from_plain(kind: type[C], data: Any, path: str = "") -> C:
    """A ``kind`` from mappings, lists and scalars, as YAML and JSON have them.

    Args:
        kind: a dataclass.
        path: where in the file the data stands, for messages.

    Raises:
        ConfigError: the data does not describe a ``kind``, or the dataclass refuses a value.
    """
    assert dataclasses.is_dataclass(kind), f"{kind} is no dataclass"
    if not isinstance(data, Mapping):
        raise ConfigError(f"{_at(path)}must be a mapping of names to values, not {_show(data)}")
    hints = get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    for name in data:
        if name not in fields:
            raise ConfigError(_unknown(_join(path, name), str(name), list(fields)))
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _convert(hints[name], data[name], _join(path, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(
                f"{_join(path, name)} is missing; it must be {_describe(hints[name])}"
            )
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}" if path else str(error)) from error


def to_plain(value: Any) -> Any:
    """The inverse of :func:`from_plain`: dataclasses become dicts, tuples become lists."""
    if dataclasses.is_dataclass(value):
        return {
            f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init
        }
    if isinstance(value, Mapping):
        return {to_plain(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    assert value is None or isinstance(value, (bool, int, float, str)), (
        f"{value!r} is no plain data"
    )
    return value


def _convert(kind: Any, value: Any, path: str) -> Any:
    """``value`` as the annotation ``kind`` wants it; raises ConfigError."""
    options = _options(kind)
    if value is None and types.NoneType in options:
        return None
    choices = [option for option in options if option is not types.NoneType]
    if len(choices) == 1:
        return _convert_one(choices[0], value, path)
    kinds = _kinds(choices)
    if kinds and isinstance(value, Mapping):
        named = value.get("kind")
        if not isinstance(named, str) or named not in kinds:
            allowed: Any = Literal  # which a type checker reads only where it is written out
            raise _wrong(allowed[tuple(kinds)], named, _join(path, "kind"))
        return _convert_one(kinds[named], value, path)
    for choice in choices:
        try:
            return _convert_one(choice, value, path)
        except ConfigError:
            continue
    raise _wrong(kind, value, path)


def _kinds(choices: list[Any]) -> dict[str, Any]:
    """Dataclasses of a union by what their ``kind`` may be, if all of them have one."""
    found: dict[str, Any] = {}
    for choice in choices:
        hint = get_type_hints(choice).get("kind") if dataclasses.is_dataclass(choice) else None
        if get_origin(hint) is not Literal:
            return {}
        found |= dict.fromkeys(get_args(hint), choice)
    return found


def _convert_one(kind: Any, value: Any, path: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        assert isinstance(kind, type)
        return from_plain(kind, value, path)
    if origin is Literal:
        for allowed in arguments:
            if type(value) is type(allowed) and value == allowed:
                return value
        raise _wrong(kind, value, path)
    if origin is tuple:
        return _convert_tuple(kind, arguments, value, path)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise _wrong(kind, value, path)
        key_kind, item_kind = arguments
        return {
            _convert(key_kind, key, f"{path} (key)"): _convert(item_kind, item, _join(path, key))
            for key, item in value.items()
        }
    if kind is float and type(value) is int:
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    assert kind in _NAMES, f"{path}: fields of type {kind} are not supported"
    if type(value) is not kind:
        raise _wrong(kind, value, path)
    return value


def _convert_tuple(kind: Any, arguments: tuple[Any, ...], value: Any, path: str) -> Any:
    if not isinstance(value, (list, tuple)):
        raise _wrong(kind, value, path)
    if len(arguments) == 2 and arguments[1] is ...:
        arguments = (arguments[0],) * len(value)
    elif len(value) != len(arguments):
        raise _wrong(kind, value, path)
    return tuple(
        _convert(item_kind, item, f"{path}[{i}]")
        for i, (item_kind, item) in enumerate(zip(arguments, value, strict=True))
    )


_NAMES = {bool: "true or false", int: "an integer", float: "a number", str: "text", Path: "a path"}


def _options(kind: Any) -> tuple[Any, ...]:
    """The members of a union, or the type itself."""
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _describe(kind: Any) -> str:
    """What an annotation allows, in words."""
    options = _options(kind)
    if kinds := _kinds([option for option in options if option is not types.NoneType]):
        null = " or null" if types.NoneType in options else ""
        return f"a mapping with a kind, one of {', '.join(kinds)}{null}"
    if len(options) > 1:
        return " or ".join(_describe(option) for option in options)
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is types.NoneType:
        return "null"
    if origin is Literal:
        return ("one of " if len(arguments) > 1 else "") + ", ".join(map(str, arguments))
    if origin is tuple and len(arguments) == 2 and arguments[1] is ...:
        return f"a list in which each is {_describe(arguments[0])}"
    if origin is tuple:
        return f"a list of {len(arguments)}: {', '.join(map(_describe, arguments))}"
    if kind in _NAMES:
        return _NAMES[kind]
    return "a mapping of names to values"


def _wrong(kind: Any, value: Any, path: str) -> ConfigError:
    message = f"{_at(path)}must be {_describe(kind)}, not {_show(value)}"
    names = [a for option in _options(kind) for a in get_args(option) if isinstance(a, str)]
    if isinstance(value, str) and value in _kinds([*_options(kind)]):
        message += f"; write {{kind: {value}}}"
    elif isinstance(value, str) and (near := difflib.get_close_matches(value, names, 1)):
        message += f"; did you mean {near[0]}?"
    return ConfigError(message)


def _unknown(path: str, name: str, allowed: list[str]) -> str:
    near = difflib.get_close_matches(name, allowed, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{path} is unknown; {hint}allowed: {', '.join(allowed) or 'nothing'}"


def _join(path: str, name: Any) -> str:
    return f"{path}.{name}" if path else str(name)


def _at(path: str) -> str:
    return f"{path} " if path else "the configuration "


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2's core schema, decimal ones."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The base's, which takes the last of equal keys without a word."""
        seen = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode):
                key = self.construct_object(key_node)
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key!r} is given twice", key_node.start_mark
                    )
                seen.add(key)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML would take for something else than text."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # Line breaks that only Unicode knows do not survive the other styles.
        style = None if data.isprintable() else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})\\Z"), _first
        )


def unusual(config: Any) -> dict[str, Any]:
    """Fields of a dataclass that are not what they would be anyway, as plain data."""
    found = {}
    for field in dataclasses.fields(config):
        usual = field.default
        if usual is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
            usual = field.default_factory()
        if usual is dataclasses.MISSING or getattr(config, field.name) != usual:
            found[field.name] = to_plain(getattr(config, field.name))
    return found
