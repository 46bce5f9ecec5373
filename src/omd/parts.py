"""Parts: values with settings of their own, in Python an instance, elsewhere text.

    name                                 one that ships, with its defaults
    name:key=value,key=value             with settings
    package.module:Class:key=value       a part of one's own

A part is a frozen dataclass (an equinox module is one too); its fields are its settings. One
declaration by `setting` gives the check, the help, the text and the JSON. Imports no JAX.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import os
import pathlib
import re
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, TypeVar

from omd import catalogue
from omd.errors import InputError, closest, in_a_line, nearest

P = TypeVar("P")

_PATH = re.compile(r"[A-Za-z_][\w]*(\.[A-Za-z_]\w*)*")


def setting(
    default: Any = dataclasses.MISSING,
    help: str = "",
    *,
    low: float = -math.inf,
    high: float = math.inf,
    open_low: bool = False,
    open_high: bool = False,
    static: bool = False,
    **metadata: Any,
) -> Any:
    """A dataclass field that is a setting: its default, its help, its limits.

    Numbers lie within [low, high], without the ends that are open. `static` marks an integer or a
    text that equinox keeps out of a pytree's leaves. Choices are given by the annotation:
    `Literal["soft", "hard"]`.
    """
    limits = dict(help=help, low=low, high=high, open_low=open_low, open_high=open_high)
    return dataclasses.field(default=default, metadata={**limits, "static": static, **metadata})


class Setting(NamedTuple):
    """What is known of one setting of a part."""

    name: str
    type: str
    """number, whole number, widths (of layers), true or false, text, or the choices."""
    choices: tuple[Any, ...]
    optional: bool
    """Whether None is a value."""
    default: Any
    """`dataclasses.MISSING` where a value must be given."""
    metadata: Mapping[str, Any]

    @property
    def limits(self) -> str:
        """Such as "above 0" or "0 to 1"; empty where there are none."""
        low, high = self.metadata.get("low", -math.inf), self.metadata.get("high", math.inf)
        if math.isfinite(low) and math.isfinite(high):
            ends = ((low, "open_low"), (high, "open_high"))
            out = " and ".join(f"{end:g}" for end, is_open in ends if self.metadata.get(is_open))
            return f"{low:g} to {high:g}" + (f" ({out} left out)" if out else "")
        if math.isfinite(low):
            return f"{'above' if self.metadata.get('open_low') else 'at least'} {low:g}"
        if math.isfinite(high):
            return f"{'below' if self.metadata.get('open_high') else 'at most'} {high:g}"
        return ""


def settings_of(part: Any) -> tuple[Setting, ...]:
    """The settings of a part or of its class, in their order; those with `init=False` are none."""
    cls = part if isinstance(part, type) else type(part)
    if not dataclasses.is_dataclass(cls):
        return ()
    hints = _hints(cls)
    found = []
    for field in dataclasses.fields(cls):
        if field.init:
            kind, choices, optional = _kind(hints.get(field.name, field.type))
            default = field.default
            if field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            found.append(Setting(field.name, kind, choices, optional, default, field.metadata))
    return tuple(found)


def check(part: Any, name: str | None = None) -> None:
    """Raises `InputError` for a setting of another type, out of its limits, or not finite.

    Values that JAX traces aren't known yet and pass; of an array every entry is checked. `name`
    is what the sentence calls the part.
    """
    name = name or text_of(type(part))
    for one in settings_of(part):
        value = getattr(part, one.name)
        good = checked(f"{one.name} of {name}", one, value)
        if type(good) is not type(value):
            object.__setattr__(part, one.name, good)


def checked(name: str, one: Setting, value: Any) -> Any:
    """The value of a setting, NumPy scalars as Python numbers; raises `InputError` where it can't
    work. `name` is what the sentence calls it."""
    if value is None and one.optional:
        return None
    if one.choices:
        if not any(isinstance(value, type(c)) and value == c for c in one.choices):
            text = [str(c) for c in one.choices]
            if isinstance(value, str):
                closest(name, value, text)
            raise InputError(f"{name} is {value!r}: give {' or '.join(text)}")
        return value
    if one.type == "true or false":
        if not isinstance(value, bool) and type(value).__name__ not in ("bool_", "bool"):
            raise InputError(f"{name} is {value!r}: give true or false")
        return bool(value)
    if one.type in ("number", "whole number"):
        return _number(name, one, value)
    if one.type == "widths":
        return _widths(name, one, value)
    if one.type == "text" and not isinstance(value, str):
        raise InputError(f"{name} is {value!r}: give a text")
    return value


def count(name: str, value: Any, low: int = 1, high: int = 2**31 - 1) -> int:
    """A whole number from a caller, NumPy's and JAX's too; raises `InputError` where it is none, or
    out of its limits."""
    limits = {"low": low, "high": high, "static": True}
    return _number(name, Setting(name, "whole number", (), False, None, limits), value)


def path(name: str, value: Any) -> pathlib.Path:
    """A path from a caller; raises `InputError` for what is none."""
    try:
        text = os.fspath(value)
    except TypeError:
        text = None
    if not isinstance(text, str) or "\0" in text:
        raise InputError(f"{name} is {value!r}: give a path")
    return pathlib.Path(text)


def _number(name: str, one: Setting, value: Any) -> Any:
    static = one.metadata.get("static", False)
    if _is_traced(value):
        if static:
            raise InputError(
                f"{name} is traced by JAX: give a Python number, known at compile time"
            )
        return value
    whole, many = one.type != "number", bool(getattr(value, "ndim", 0))
    truth = isinstance(value, bool) or getattr(getattr(value, "dtype", None), "kind", "") == "b"
    if truth or isinstance(value, str | bytes) or (whole and many):
        raise InputError(f"{name} is {value!r}: give a {'whole ' * whole}number")
    try:
        numbers = _entries(value) if many else [float(value)]
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{name} is {value!r}: give a {'whole ' * whole}number") from None
    for number in numbers:
        shown = number if many else value
        if whole and math.isfinite(number) and number != math.floor(number):
            raise InputError(f"{name} is {shown!r}: give a whole number")
        if not math.isfinite(number):
            raise InputError(f"{name} is {shown!r}: give a finite number")
        low, high = one.metadata.get("low", -math.inf), one.metadata.get("high", math.inf)
        if whole:  # counted in 32 bits
            low, high = max(low, -(2**31)), min(high, 2**31 - 1)
        if number < low or (one.metadata.get("open_low") and number <= low):
            than = "above" if one.metadata.get("open_low") else "of at least"
            raise InputError(f"{name} is {shown!r}: give a number {than} {low:g}")
        if number > high or (one.metadata.get("open_high") and number >= high):
            than = "below" if one.metadata.get("open_high") else "of at most"
            raise InputError(f"{name} is {shown!r}: give a number {than} {high:g}")
    if many or (hasattr(value, "aval") and not static):  # an array stays one
        return value
    return int(value) if whole else float(value)


_BETWEEN = re.compile(r"\s*[,x×]\s*")
"""Parts the widths of layers in a text: in a sweep a comma parts values of an axis."""


def _widths(name: str, one: Setting, value: Any) -> Any:
    """Units of hidden layers. A number stands for `layers` layers, and is what so many equal
    layers are written as, lest one network have two names."""
    if isinstance(value, str) and _BETWEEN.search(value):
        words = _BETWEEN.split(value.strip())
        value = words[:-1] if words[-1] == "" else words
        value = tuple(int(w) if re.fullmatch(r"-?\d{1,20}", w) else w for w in value)
    elif getattr(value, "ndim", 0) == 1:
        value = tuple(value.tolist())
    if not isinstance(value, tuple | list):
        return _number(name, one, value)
    usual, most = one.metadata["layers"], one.metadata["most"]
    if not 1 <= len(value) <= most:
        raise InputError(f"{name} has {len(value)} layers: give 1 to {most}")
    found = tuple(_number(f"layer {i} of {name}", one, v) for i, v in enumerate(value, 1))
    return found[0] if found == found[:1] * usual else found


def widths_text(widths: int | tuple[int, ...]) -> str:
    """Widths of layers as text that can be read back: 64, 64x32, or 64x for one layer."""
    if not isinstance(widths, tuple):
        return str(widths)
    return "x".join(map(str, widths)) + "x" * (len(widths) == 1)


def _entries(array: Any) -> list[float]:
    import numpy as np

    return np.unique(np.asarray(array, float)).tolist()


def _is_traced(value: Any) -> bool:
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(value, jax.core.Tracer)


def part_of(kind: str, value: Any) -> Any:
    """The part that an instance, a class or a text stands for.

    Raises `InputError` for a name that is unknown, a setting that the part doesn't have or a value
    that can't work, a module that can't be imported, and a class that isn't a part of this kind.
    """
    settings = ""
    if isinstance(value, str):
        name, settings = split(kind, value)
        entry = catalogue.entries(kind).get(name)
        cls: Any = named(kind, entry.where if entry else name)
    else:
        cls = value if isinstance(value, type) else None
    base = named(kind, catalogue.BASES[kind])
    if cls is None:
        if not isinstance(value, base):
            raise InputError(
                f"{kind} is {value!r}, which is no {base.__name__}: give an instance or a subclass "
                f"of it, or a name (`omd list {kind}`)"
            )
        return value
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise InputError(
            f"{kind} is {value!r}, which isn't a part of this kind: give a subclass of "
            f"{base.__module__}.{base.__name__}"
        )
    return _made(kind, cls, value, settings)


def _made(kind: str, cls: type, value: Any, text: str) -> Any:
    name = text_of(cls)
    known = {one.name: one for one in settings_of(cls)}
    given = {key: read(f"{key} of {name}", known, key, word) for key, word in pairs(name, text)}
    missing = [n for n, one in known.items() if one.default is dataclasses.MISSING]
    if absent := [n for n in missing if n not in given]:
        raise InputError(
            f"{kind} {name!r} needs a value for {', '.join(absent)}: write {name}:{absent[0]}=…"
        )
    try:
        return cls(**given)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{kind} {value!r} can't be made: {reason_of(error)}") from error


def split(kind: str, text: str) -> tuple[str, str]:
    """The name and the settings in a part's text; raises `InputError` for an unknown name."""
    first, _, rest = text.strip().partition(":")
    if first in catalogue.entries(kind):
        return first, rest
    second, _, settings = rest.partition(":")
    if second and "=" not in second and _PATH.fullmatch(first) and _PATH.fullmatch(second):
        return f"{first}:{second}", settings
    if not first:
        raise InputError(f"{kind} is {text!r}: give a name (`omd list {kind}` shows them)")
    return closest(kind, first, catalogue.entries(kind)), rest


def named(kind: str, where: str) -> Any:
    """What `package.module:Name` is; raises `InputError` where the module can't be imported or has
    no such name."""
    module, _, name = where.partition(":")
    found = imported(kind, where, module)
    for step in name.split("."):
        if not hasattr(found, step):
            public = [n for n in dir(found) if not n.startswith("_")]
            near = nearest(step, public)
            hint = f"did you mean {' or '.join(near)}?" if near else "no name is near"
            raise InputError(f"{kind} {where!r}: {module} has no {step!r}: {hint}")
        found = getattr(found, step)
    return found


def imported(kind: str, where: str, module: str) -> Any:
    """The module that `where` names; raises `InputError` where it can't be imported."""
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        names = isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")
        if names:
            raise InputError(
                f"{kind} {where!r} names a module {module!r} that is not there: install it, or "
                "start in the folder that holds it"
            ) from error
        raise InputError(
            f"{kind} {where!r} names a module {module!r} that raises when it is imported, "
            f"{reason_of(error)}: mend it"
        ) from error


_OURS = __file__.rpartition(os.sep)[0] + os.sep


def reason_of(error: BaseException) -> str:
    """An error of somebody else's code in one line: its type, its text, where it arose."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code
        if "importlib" not in code.co_filename and not code.co_filename.startswith(_OURS):
            file = code.co_filename.rpartition("/")[2]
            place = f" ({file}, line {trace.tb_lineno})"
        trace = trace.tb_next
    name, words = type(error).__name__, in_a_line(error)
    return f"{name}: {words}{place}" if words != name else f"{name}{place}"


def pairs(name: str, text: str) -> list[tuple[str, str]]:
    """`key=value,key=value` taken apart; raises `InputError` where it isn't that."""
    found: list[tuple[str, str]] = []
    for item in text.split(",") if text.strip() else ():
        key, equals, value = (x.strip() for x in item.partition("="))
        if not equals or not key:
            raise InputError(f"settings of {name} are written key=value, not {item!r}")
        if key in dict(found):
            raise InputError(f"settings of {name} give {key} twice: give it once")
        found.append((key, value))
    return found


def read(name: str, known: Mapping[str, Setting], key: str, word: str) -> Any:
    """A setting's value from its text; raises `InputError` for an unknown setting or a bad value.
    `name` is what the sentence calls it."""
    closest(f"setting of {name.partition(' of ')[2]}", key, known)
    one = known[key]
    if one.optional and word.lower() in ("none", ""):
        return None
    if one.choices:
        match = {str(choice).lower(): choice for choice in one.choices}
        return match.get(word.lower(), word)
    if one.type == "true or false":
        return {"true": True, "false": False}.get(word.lower(), word)
    if one.type in ("number", "whole number") or (
        one.type == "widths" and not _BETWEEN.search(word)
    ):
        return number(name.removesuffix(" of a run"), word)
    return word


def number(name: str, text: str) -> int | float:
    """A number from its text; raises `InputError` for anything else."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    raise InputError(f"{name} is {text!r}: give a number")


def text_of(part: Any, *, complete: bool = False) -> str:
    """The text of a part or of its class: settings that aren't their default, or all of them.

    Raises `InputError` for a setting that text can't hold, such as an array.
    """
    cls = part if isinstance(part, type) else type(part)
    where = f"{cls.__module__}:{cls.__qualname__}"
    name = catalogue.name_at(where) or where
    if isinstance(part, type):
        return name
    words = []
    for one in settings_of(part):
        value = getattr(part, one.name)
        if not _same(value, one.default) or (complete and one.type != "value"):
            words.append(f"{one.name}={_word(f'{one.name} of {name}', value)}")
    return f"{name}:{','.join(words)}" if words else name


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b) if isinstance(a, str | bool) else a is b or a == b


def _word(name: str, value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        if not re.fullmatch(r"[^,=\s][^,=]*", value):
            raise InputError(f"{name} is {value!r}: give a text without ',' and '='")
        return value
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        value = value.item()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        short = repr(value).replace("e-0", "e-").replace("e+0", "e+")
        return short.removesuffix(".0") if float(short.removesuffix(".0")) == value else short
    raise InputError(f"{name} is {value!r}, which text can't hold: give a number or a text")


def label_of(part: Any) -> str:
    """What titles and legends call a part, its class, or its text: from the catalogue, else the
    class's own name; with settings that aren't their default."""
    text = part if isinstance(part, str) else text_of(part)
    for kind in catalogue.BASES:
        name, _, rest = text.partition(":")
        if entry := catalogue.entries(kind).get(name):
            return f"{entry.label} ({rest})" if rest else entry.label
    _, _, rest = text.partition(":")
    name, _, settings = rest.partition(":")
    short = name.rpartition(".")[2] or text
    return f"{short} ({settings})" if settings else short


def _hints(cls: type) -> dict[str, Any]:
    """Types of the fields; one that can't be evaluated here, such as a name that only a type
    checker knows, stays a text."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        names = vars(sys.modules.get(base.__module__, base))
        for name, hint in vars(base).get("__annotations__", {}).items():
            try:
                found[name] = eval(hint, dict(names)) if isinstance(hint, str) else hint
            except Exception:
                found[name] = hint
    return found


def _kind(hint: Any) -> tuple[str, tuple[Any, ...], bool]:
    """Type in words, choices, and whether None is allowed."""
    options = set(typing.get_args(hint)) if _is_union(hint) else {hint}
    optional = type(None) in options
    options.discard(type(None))
    choices = tuple(
        c for o in _ordered(hint) if typing.get_origin(o) is Literal for c in typing.get_args(o)
    )
    if choices:
        return "choice", choices, optional
    if options == {bool} or hint == "bool":
        return "true or false", (), optional
    if options == {int} or hint == "int":
        return "whole number", (), optional
    if options >= {int, tuple[int, ...]}:
        return "widths", (), optional
    if float in options or hint in ("float", "ArrayLike"):
        return "number", (), optional
    if int in options:  # or an array of whole numbers
        return "whole number", (), optional
    if options == {str} or hint == "str":
        return "text", (), optional
    return "value", (), optional


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _ordered(hint: Any) -> Iterable[Any]:
    return typing.get_args(hint) if _is_union(hint) else (hint,)
