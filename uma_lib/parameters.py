"""Parameters of commands and notebooks, checked: unknown names, wrong types and values out of range are refused.

This module knows nothing about models: it imports no torch.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from uma_lib.files import RunError, read_text
from uma_lib.paths import shipped

T = TypeVar("T")


def check(cls: type[T], values: Mapping[str, Any]) -> T:
    """Build the flat dataclass `cls` from plain values, refusing unknown names and wrong types.

    Field types may be bool, int, float, str, `Literal[...]`, `list[X]`, `tuple[X, ...]`, and any of these
    `| None`. An int is accepted for a float, a list for a tuple; nothing else is converted. A `ValueError`
    from the class's own `__post_init__` (a value out of range) becomes a `RunError` as well.

    >>> @dataclasses.dataclass
    ... class Config:
    ...     steps: int = 10
    ...     lr: float = 1e-3
    >>> check(Config, {"steps": 20, "lr": 1})
    Config(steps=20, lr=1.0)
    >>> check(Config, {"step": 20})
    Traceback (most recent call last):
    uma_lib.files.RunError: unknown parameter 'step'; did you mean 'steps'?
    """
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    for name in values:
        if name not in fields:
            raise RunError(unknown("parameter", name, fields))
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise RunError(f"parameter {name!r} is missing; give it a value of type {type_name(hints[name])}")
    try:
        return cls(**{name: check_value(name, value, hints[name]) for name, value in values.items()})
    except ValueError as error:
        raise RunError(str(error)) from error


def check_value(name: str, value: Any, expected: Any) -> Any:
    """Return `value` as the type `expected` (see `check`), or raise a `RunError` that says how to pass it.

    The advice comes from what papermill and YAML really do: `-p FLAG false` and `lr: 1e-6` arrive as text,
    `-p N 1e5` as a float, `-p SEEDS '[1, 2]'` as text.
    """
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        kinds = [kind for kind in arguments if kind is not type(None)]
        if len(kinds) != 1:
            raise TypeError(f"parameter {name!r}: a union of more than one type and None is not supported")
        return check_value(name, value, kinds[0])
    if origin is Literal:
        if not any(value == choice and type(value) is type(choice) for choice in arguments):
            choices = ", ".join(repr(choice) for choice in arguments)
            raise RunError(f"parameter {name!r} is {_brief(value)}; pass one of {choices}")
        return value
    kind = origin or expected
    if kind in (list, tuple):
        if not isinstance(value, list | tuple):
            raise RunError(_wrong(name, value, expected, f"write [1, 2], with papermill -y '{name}: [1, 2]'"))
        if not arguments:
            return kind(value)
        return kind(check_value(f"{name}[{i}]", item, arguments[0]) for i, item in enumerate(value))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > LARGEST:
            return math.inf if value > 0 else -math.inf  # which no range allows
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        raise RunError(_wrong(name, value, expected, f"write {int(value)}, without point or exponent"))
    if kind is float and isinstance(value, str):
        raise RunError(_wrong(name, value, expected, "write 1.0e-6, as YAML reads 1e-6 as text"))
    if kind is bool and not isinstance(value, bool):
        raise RunError(_wrong(name, value, expected, "write True or False (papermill -p: not false)"))
    if kind is str and not isinstance(value, str):
        text = _brief(value)
        raise RunError(_wrong(name, value, expected, f'write "{text}", with papermill -r {name} {text}'))
    if type(value) is not kind:
        raise RunError(_wrong(name, value, expected, f"pass a value of type {type_name(expected)}"))
    return value


LARGEST = 2**53  # integers up to here are exact as floats


def _brief(value: Any, limit: int = 80) -> str:
    """The value as Python writes it, cut to one short line."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."


def bounded(config: Any, **bounds: tuple[float, float]) -> None:
    """Refuse a number (or one of a tuple) of a configuration outside ``name=(least, most)``, both included.

    NaN, infinity and numbers too large to count with are outside of every range. Raises ValueError, which `check` turns
    into a `RunError`.

    >>> @dataclasses.dataclass
    ... class Config:
    ...     lr: float = float("nan")
    >>> bounded(Config(), lr=(0, 1))
    Traceback (most recent call last):
    ValueError: lr is nan; it must be between 0 and 1
    """
    for name, (least, most) in bounds.items():
        value = getattr(config, name)
        for one in value if isinstance(value, tuple) else (value,):
            if not (least <= one <= min(most, LARGEST)):
                small = most == math.inf and not one > LARGEST
                wanted = f"at least {least:g}" if small else f"between {least:g} and {min(most, LARGEST):g}"
                raise ValueError(f"{name} is {_brief(one)}; it must be {wanted}")


def type_name(kind: Any) -> str:
    """`int` for int, `list[int]` for list[int]."""
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """One line that refuses `name` and suggests the nearest known name, or lists them all."""
    known = list(known)
    lower = {other.lower(): other for other in known}
    near = difflib.get_close_matches(name.lower(), lower, n=1)
    hint = f"did you mean {lower[near[0]]!r}?" if near else f"known: {', '.join(known) or 'none'}"
    return f"unknown {what} {name!r}; {hint}"


def _wrong(name: str, value: Any, expected: Any, advice: str) -> str:
    return f"parameter {name!r} is {_brief(value)} ({type(value).__name__}), not {type_name(expected)}; {advice}"


def notebook_parameters(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values in a notebook's `globals()`, for the cell right after its `parameters` cell.

    papermill only logs a parameter that the notebook does not declare, and sets it all the same. So
    whatever plain value stands in the namespace goes through `check`, which refuses a name that the class
    does not have:

    `config = check(Config, notebook_parameters(globals()))`
    """
    plain = bool | int | float | str | list | tuple | dict | None
    of_ipython = {"In", "Out"}
    return {
        name: value
        for name, value in namespace.items()
        if isinstance(value, plain) and not name.startswith("_") and name not in of_ipython
    }


def load_parameters(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping of names to values; an empty file is an empty mapping.

    Shipped parameter files (`notebooks/params`) are found from any directory.
    """
    values = load_yaml(read_text(shipped(path)), str(path))
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise RunError(f"{path}: expected lines of the form 'name: value'")
    return values


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, but a key that stands twice in a mapping is refused, and so are references.

    References (`*name`) let a short text stand for a value of any size.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key, count in keys.items():
            if count > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} stands there twice", node.start_mark)
        return super().construct_mapping(node, deep)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            said = f"write out what *{self.peek_event().anchor} stands for"
            raise yaml.composer.ComposerError(None, None, said, self.peek_event().start_mark)
        return super().compose_node(parent, index)


def load_yaml(text: str, where: str) -> Any:
    """The value of a YAML text; `RunError` that begins with ``where`` for one that cannot be read.

    >>> load_yaml("[1, 2]", "--set lengths")
    [1, 2]
    """
    try:
        return yaml.load(text, _Loader)  # a safe loader: it builds plain values only
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        # PyYAML lets other errors through, too: impossible dates, unhashable keys, deep nesting
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise RunError(f"{where}: not valid YAML: {reason}") from None
