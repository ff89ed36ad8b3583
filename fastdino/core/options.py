"""Options of a step as the fields of a frozen dataclass.

Belongs here: declaring one, with its default and what it means, and making them of plain values
such as JSON's. Does not: which options there are (``fastdino.steps``), how they are written on a
command line (``fastdino.__main__``) or shown by Dagster (``assets.stage``).
"""

import contextlib
import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from fastdino.core.environment import Variable
from fastdino.core.errors import UserError

S = TypeVar("S")


def option(default: Any, means: str, *, choices: tuple[str, ...] = ()) -> Any:
    """A field with its default, or with the setting from outside that it defaults to.

    Args:
        default: a value that cannot change, or a ``Variable``, which is read when it is needed.
        means: what it decides, for people.
        choices: what it may be, if that is a matter of choosing.
    """
    metadata: dict[str, Any] = {"means": means, "choices": choices}
    if isinstance(default, Variable):
        metadata["variable"] = default
        return dataclasses.field(default_factory=default.value, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def from_plain(kind: type[S], values: Mapping[str, Any]) -> S:
    """The ``kind`` that plain values, as they come out of JSON, say; what they lack is as usual.

    Raises:
        UserError: there is no such option, or it cannot be that.
    """
    hints = typing.get_type_hints(kind)
    expected = {field.name: hints[field.name] for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    made = {}
    for name, value in values.items():
        if name not in expected:
            known = ", ".join(expected) or "none"
            raise UserError(f"{kind.__name__} has no option {name!r}: it has {known}")
        try:
            made[name] = _converted(value, expected[name])
        except TypeError:
            raise UserError(f"{kind.__name__}: {name} cannot be {value!r}") from None
    return kind(**made)


def _converted(value: Any, kind: Any) -> Any:
    if isinstance(kind, types.UnionType):
        for each in typing.get_args(kind):
            with contextlib.suppress(TypeError):
                return _converted(value, each)
        raise TypeError
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise TypeError
        inner = typing.get_args(kind)[0]
        return tuple(_converted(each, inner) for each in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError
    return value
