"""Bad inputs by kind, drawn by a seed: command lines, files they read, and calls of the library.

Each is wrong by construction: an answer other than one sentence and exit code 2 is a fault.
"""

from __future__ import annotations

import json
import math
import pathlib
import random
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from omd import catalogue, parts
from omd.config import SETTINGS


class Command(NamedTuple):
    """A command line, and files that it finds in the folder where it starts."""

    kind: str
    words: tuple[str, ...]
    files: tuple[tuple[str, bytes], ...] = ()


class Call(NamedTuple):
    """A call of the library."""

    kind: str
    name: str
    call: Callable[[], Any]


DATA = tomllib.loads(pathlib.Path(__file__).with_suffix(".toml").read_text("utf-8"))
NO_NUMBER = [*DATA["no_number"], "\udcff", "9" * 5000, "-" + "9" * 400]
NO_NAME = [*DATA["no_name"], "\udcff", "x" * 5000]
MODULES = (
    ("raises.py", b"raise RuntimeError('two\\nlines')\n"),
    ("syntax.py", b"def (:\n"),
    ("empty.py", b""),
    ("exits.py", b"import sys\nsys.exit(3)\n"),
)
ENVS = ["CartPole-v1", "Pendulum-v1", "gymnasium:CartPole-v1"]
RUN = "tiny"
"""The folder of a run that is there."""


def _word(rng: random.Random, one: parts.Setting) -> str:
    """Text that is no value of a setting."""
    if one.choices or one.type == "true or false":
        return rng.choice([w for w in NO_NAME if w not in ("None", "")] + ["truee", "10"])
    words = list(NO_NUMBER)
    if one.optional:
        words = [word for word in words if word.strip()]
    if one.type == "widths":
        words.remove("1,2")
    low, high = one.metadata.get("low", -math.inf), one.metadata.get("high", math.inf)
    if math.isfinite(low):
        words += [repr(low - 1), repr(-(10 ** rng.randint(2, 300)))] * 3
        words += [repr(low)] * 3 if one.metadata.get("open_low") else []
    if math.isfinite(high):
        words += [repr(high + 1), repr(10 ** rng.randint(12, 300))] * 3
        words += [repr(high)] * 3 if one.metadata.get("open_high") else []
    if one.type == "whole number":
        words += ["1.5", "0.1", "1e-3", repr(10 ** rng.randint(30, 300)), "1e30", "9e99"]
    return rng.choice(words)


def _options(rng: random.Random) -> Command:
    plain = [n for n, one in SETTINGS.items() if not one.metadata.get("part")]
    name = rng.choice([n for n in plain if n not in ("env", "env_args")])
    one = SETTINGS[name]
    word = _word(rng, one)
    return Command(
        "a setting's value", ("train", rng.choice(ENVS), f"--{name.replace('_', '-')}={word}")
    )


def _unknown(rng: random.Random) -> Command:
    command = rng.choice(
        ["train", "sweep", "watch", "evaluate", "list", "figure", "report", "gradcheck"]
    )
    option = rng.choice([*SETTINGS, "out", "quiet", "seed", "name"]).replace("_", "-")
    place = rng.randrange(len(option))
    letter = option[:place] + rng.choice("qxz") + option[place:]
    bad = "--" + rng.choice([letter, option + "z", "no-" + option, option.upper() + "X"])
    return Command("an option that isn't there", (command, "x", bad, "1"))


def _written(kind: str) -> Callable[[random.Random], Command]:
    """Command lines of the file beside, with what they leave open filled in."""

    def make(rng: random.Random) -> Command:
        words = shlex.split(rng.choice(DATA["commands"][kind]))
        return Command(kind, tuple(_filled(rng, word) for word in words), (("file", b"x"),))

    return make


SIXTY = ",".join(f"{0.001 * i:.3f}" for i in range(1, 61))


def _filled(rng: random.Random, text: str) -> str:
    """`<a|b>`, `<2..5>`, `<long>` and `<sixty>` in a text, the inner ones first."""

    def one(found: re.Match[str]) -> str:
        inside = found[1]
        if inside in ("long", "sixty"):
            return "x" * 300 if inside == "long" else SIXTY
        if ends := re.fullmatch(r"(\d+)\.\.(\d+)", inside):
            return str(rng.randint(10 ** int(ends[1]), 10 ** int(ends[2])))
        return rng.choice(inside.split("|"))

    while (filled := re.sub("<([^<>]*)>", one, text)) != text:
        text = filled
    return text


def _env(rng: random.Random) -> Command:
    name = rng.choice(NO_NAME)
    if rng.random() < 0.4:
        name = rng.choice(["gymnasium:", "gymnax:", "mjx:"]) + name
    if rng.random() < 0.3:
        good = list(rng.choice(["CartPole-v1", "Pendulum-v1", "HalfCheetah-v5", "MountainCar-v0"]))
        place = rng.randrange(len(good))
        name = "".join(good[:place]) + rng.choice("qxz") + "".join(good[place:])
    command = rng.choice([("train",), ("sweep", "--dry-run", "--env")])
    words = (*command, name) if name.strip() else ("train", name)
    return Command("an environment", words, MODULES)


def _env_args(rng: random.Random) -> Command:
    text = rng.choice(DATA["env_args"])
    return Command("arguments of an environment", ("train", rng.choice(ENVS), f"--env-args={text}"))


PARTS = {
    name: str(one.metadata["part"]) for name, one in SETTINGS.items() if one.metadata.get("part")
}
"""Settings that are parts, with the kind of each."""


def _part(rng: random.Random) -> Command:
    setting, kind = rng.choice(list(PARTS.items()))
    entry = rng.choice(list(catalogue.entries(kind).values()))
    own = [one for one in parts.settings_of(parts.named(kind, entry.where)) if one.type != "value"]
    bad = [
        f"{entry.name}:nope=1",
        f"{entry.name}:x",
        f"{entry.name}:=1",
        f"{entry.name}:a=",
        f"{entry.name}:,",
        f"{entry.name}x",
    ]
    if own:
        one = rng.choice(own)
        bad += [
            f"{entry.name}:{one.name}={_word(rng, one)}" for _ in range(12) if one.type != "text"
        ]
        bad += [
            f"{entry.name}:{one.name}=1,{one.name}=1",
            f"{entry.name}:{one.name}",
            f"{entry.where}:{one.name}z=1",
        ]
    other = rng.choice(
        [e for k in catalogue.BASES if k != kind for e in catalogue.entries(k).values()]
    )
    bad += [
        other.name,
        other.where,
        "builtins:int",
        "math:pi",
        "omd.agents:Nope",
        catalogue.BASES[kind],
    ]
    bad += [name for name in NO_NAME if name.strip()]
    text = rng.choice(bad)
    if rng.random() < 0.2 and ":" in text and text.partition(":")[0] in catalogue.names(kind):
        return Command("a part's setting", ("list", kind, text.partition(":")[0] + "q"))
    return Command(
        "a part's setting",
        ("train", rng.choice(ENVS), f"--{setting.replace('_', '-')}={text}"),
        MODULES,
    )


OWN = """
import gymnasium
import numpy as np
from gymnasium import spaces

class Own(gymnasium.Env):
    observation_space = spaces.Box(-1, 1, (3,))
    action_space = spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        return np.zeros(3), {{}}
    def step(self, action):
        return np.zeros(3), 1.0, False, False, {{}}
    {member}
"""


def _own_env(rng: random.Random) -> Command:
    """An environment beside the command, with a member of another kind."""
    name = f"own_{rng.randrange(10**6)}"
    content = OWN.format(member=rng.choice(DATA["own_env"])).encode()
    return Command(
        "an environment of one's own", ("train", f"{name}:Own"), ((f"{name}.py", content),)
    )


def _toml(rng: random.Random) -> Command:
    name = rng.choice([n for n, one in SETTINGS.items() if one.type in ("number", "whole number")])
    part, many = rng.choice(list(catalogue.BASES)), ", ".join(map(str, range(1, 300)))
    no = DATA["toml"]
    junk = rng.choice(no["value"])
    deep = ["[" * 100_000, "a." * 50_000 + "b = 1", "grid = " + "[" * 50_000 + "]" * 50_000]
    text = rng.choice(
        [
            *rng.choices([*no["tables"], *deep], k=2),
            f"[[grid]]\n{name} = {junk}",
            f"[base]\n{name} = {junk}\n[[grid]]\ndiscount = 0.9",
            f"[[grid]]\n{part} = {rng.choice(no['part'])}",
            f"[[grid]]\nseeds = {rng.choice(no['seeds'])}",
            f"[[grid]]\nenv = {rng.choice(no['env'])}",
            f"[[grid]]\nenv_args = {rng.choice(no['env_args'])}",
            f"[[grid]]\ntau = [0.1, 0.2]\nrace = {rng.choice(no['race'])}",
            f"[[grid]]\nsteps = {10 ** rng.randint(10, 18)}",
            f"[[grid]]\nhidden = {10 ** rng.randint(6, 12)}",
            f"[[grid]]\ninner_steps = [{many}]\nbatch_size = [{many}]\nhidden = [{many}]",
        ]
    )
    content = rng.choice([text.encode()] * 30 + [b"\xff\xfe", b"\0" * 100, text.encode("utf-16")])
    file = rng.choice(["grid.toml", "grid.toml", "grid.toml", "[b].toml", "a b.toml"])
    dry = ("--dry-run",) if rng.random() < 0.5 else ()
    return Command("a sweep's TOML file", ("sweep", file, *dry), ((file, content),))


STORED: Any = [
    None,
    3,
    -1,
    1.5,
    "x",
    "",
    [],
    {},
    True,
    [1],
    {"a": 1},
    "nan",
    1e300,
    10**40,
    [[]],
    "[b]",
    float("nan"),
]


def _stored(rng: random.Random, config: dict[str, Any]) -> Command:
    """A configuration in a file without a checksum, as an older version or a hand wrote it."""
    values = {k: v for k, v in config.items() if k != "checksum"}
    text = None
    for _ in range(rng.choice([1, 1, 2])):
        name = rng.choice(list(values))
        kind = rng.randrange(4)
        if kind == 0:
            values[rng.choice(["nope", "", "__class__", "version ", "[b]"])] = 1
        elif kind == 1 and name != "version":
            values[name] = rng.choice([{}, [[]], {"a": 1}, [None], 10**40])
        elif kind == 2:
            values["version"] = rng.choice([0, 3, -1, "2", None, [], {}, 2.5, "x", 10**40])
        else:
            name = rng.choice(
                [
                    n
                    for n, one in SETTINGS.items()
                    if one.type in ("number", "whole number") and n in values
                ]
            )
            values[name] = rng.choice(
                [
                    v
                    for v in STORED
                    if not (isinstance(v, int | float) and not isinstance(v, bool))
                    and v is not None
                ]
            )
    if rng.random() < 0.3:
        text = rng.choice([*DATA["stored_texts"], "[" * 100_000, '{"a":' * 100_000])
    content = (json.dumps(values) if text is None else text).encode("utf-8", "surrogatepass")
    command = rng.choice(
        [
            ("train", "--resume", "odd"),
            ("evaluate", "odd"),
            ("watch", "odd"),
            ("report", "odd"),
            ("figure", "8", "--run", "odd"),
        ]
    )
    return Command("a stored configuration", command, (("odd/config.json", content),))


COMMANDS = [_options, _unknown, _env, _env_args, _part, _own_env, _toml]


def commands(seed: int, config: dict[str, Any]) -> Iterator[Command]:
    """Distinct command lines without end, the kinds in turn; `config` is a stored configuration."""
    rng = random.Random(seed)
    makers = [*COMMANDS, *map(_written, DATA["commands"]), lambda rng: _stored(rng, config)]
    seen: set[Command] = set()
    while True:
        for make in makers:
            found = make(rng)
            if found not in seen:
                seen.add(found)
                yield found


class Strange:
    """An object of no use."""

    def __repr__(self) -> str:
        return "Strange()"


def _strange() -> list[Any]:
    arrays = [np.array([1.0, np.nan]), np.array(["x"]), np.array([[1, 2], [3, 4]])]
    numbers = [np.float64("nan"), np.inf, 10**400, -(10**400), 1j, np.datetime64("nat")]
    texts = [b"x", "x" * 5000, "\udcff", "\0", "nan", "1"]
    several = [(), [], {}, set(), [1, [2]], {"a": 1}, slice(3), range(0)]
    others = [object(), Strange(), Strange, lambda: 1, float, Ellipsis, NotImplemented]
    return [*arrays, *numbers, *texts, *several, *others, True, np.bool_(True)]


def _config(rng: random.Random) -> Call:
    import omd

    name = rng.choice([n for n in SETTINGS if n not in ("env_args",)])
    one, value = SETTINGS[name], rng.choice(_strange())
    while (
        (name == "env" and callable(value))
        or (name == "env" and isinstance(value, str))
        or (one.optional and value is None)
        or (name == "seeds" and isinstance(value, np.ndarray | range | dict) and False)
    ):
        value = rng.choice(_strange())
    return Call("a field of Config", f"{name}={value!r}"[:80], lambda: omd.Config(**{name: value}))


def _made(rng: random.Random) -> Call:
    setting, kind = rng.choice(list(PARTS.items()))
    entry = rng.choice(list(catalogue.entries(kind).values()))
    cls = parts.named(kind, entry.where)
    known = [
        one
        for one in parts.settings_of(cls)
        if one.type in ("number", "whole number", "choice", "true or false")
    ]
    if not known:
        value = rng.choice(_strange())
        words = f"{setting}={value!r}"[:80]
        return Call("a part given to Config", words, lambda: _with(setting, value))
    one = rng.choice(known)
    value = rng.choice(
        [
            v
            for v in _strange()
            if not isinstance(v, bool | np.bool_ | np.ndarray) and v not in (b"x",)
        ]
    )
    needed = {o.name: 1 for o in known if o.default.__class__.__name__ == "_MISSING_TYPE"}
    return Call(
        "a part's field",
        f"{entry.name}({one.name}={value!r})"[:80],
        lambda: cls(**{**needed, one.name: value}),
    )


def _with(setting: str, value: Any) -> Any:
    import omd

    return omd.Config(**{setting: value})


def _mdp(rng: random.Random) -> Call:
    from omd import tabular

    p = np.full((3, 2, 3), 1 / 3)
    r, discount, more = np.zeros((3, 2)), 0.9, {}
    place = tuple(rng.randrange(n) for n in p.shape)
    kind = rng.randrange(10)
    value = rng.choice([np.nan, np.inf, -np.inf, -0.1, 2.0])
    name = f"case {kind}, {value} at {place}"
    if kind == 0:
        p[place] = value
    elif kind == 1:
        p = rng.choice(
            [
                np.ones((3, 2)),
                np.ones((3, 2, 4)) / 4,
                np.ones(3),
                np.zeros((0, 2, 0)),
                np.ones((3, 0, 3)),
                "x",
                None,
                [[["a"]]],
                p * 1j,
                p > 0,
            ]
        )
        name = f"transition {np.shape(p)} {rng.random()}"
    elif kind == 2:
        r[place[:2]] = rng.choice([np.nan, np.inf])
    elif kind == 3:
        r = rng.choice(
            [
                np.zeros(3),
                np.zeros((2, 3)),
                np.zeros((3, 2, 2)),
                "x",
                None,
                np.zeros((3, 2)) * 1j,
                [["a"] * 2] * 3,
            ]
        )
        name = f"reward {np.shape(r)} {rng.random()}"
    elif kind == 4:
        discount = rng.choice(
            [-0.1, 1.1, np.nan, np.inf, "x", None, 1j, [0.9, 0.9], 1.0, 1 + 1e-12]
        )
        name = f"discount {discount}"
    elif kind == 5:
        more = {
            "initial": rng.choice(
                [[0.5, 0.5], [1.0, 1.0, 1.0], [-1.0, 1.0, 1.0], [np.nan] * 3, "x", [0, 0, 0]]
            )
        }
        name = f"initial {more}"
    elif kind == 6:
        more = {"states": rng.choice([["a"], "abc", ["a", "a", "b"], 3, {"a": 1}])}
        name = f"labels {more}"
    elif kind == 7:
        more = {
            "mask": rng.choice(
                [np.zeros((3, 2), bool), np.ones((2, 2), bool), "x", np.full((3, 2), 2)]
            )
        }
        name = f"mask {more}"
    elif kind == 8:
        p[place[:2]] *= rng.choice([0.5, 0.999, 1.01, 0.0, 3.0])
    else:
        r[place[0]] = -np.inf
    return Call("a tabular MDP", name, lambda: tabular.MDP(p, r, discount, **more))


def _library(rng: random.Random) -> Call:
    import omd
    from omd import tabular

    mdp, one, pick = tabular.paper_mdp(), "CartPole-v1", rng.choice
    strange = pick(_strange())
    number = pick([np.nan, np.inf, -1.0, "x", 1j, [1, 2], {}, -np.inf, "1"])
    no_path = pick([3, b"x", None, [], "a\0b", object(), 1.5])
    count = pick([0, -1, 1.5, "x", None, np.array([1]), np.float64(2.5), [2], True])
    calls: dict[str, tuple[Any, Callable[[], Any]]] = {
        "load": (no_path, lambda: omd.load(no_path)),
        "results": (no_path, lambda: omd.results(no_path)),
        "results of nothing": (strange, lambda: omd.results(str(strange)[:50] + "/nowhere")),
        "train setting": (strange, lambda: omd.train(one, nope=strange)),
        "train callbacks": (
            strange,
            lambda: omd.train(one, callbacks=[3 if callable(strange) else strange]),
        ),
        "train callbacks no list": (count, lambda: omd.train(one, callbacks=count or 0)),
        "train track": (strange, lambda: omd.train(one, track="nope")),
        "train name": (0, lambda: omd.train(one, out=None, name="x")),
        "train out": (no_path, lambda: omd.train(one, out=no_path or 3)),
        "train resume": (no_path, lambda: omd.train(resume=no_path or 3)),
        "sweep": (strange, lambda: omd.sweep({"grid": "x" if _many(strange) else strange})),
        "sweep options": (strange, lambda: omd.sweep(options={"nope": [1]})),
        "sweep engine": (strange, lambda: omd.sweep({"grid": [{}]}, engine=pick(["x", ""]))),
        "sweep workers": (count, lambda: omd.sweep({"grid": [{}]}, workers=count or 0)),
        "StopAtReturn": (number, lambda: omd.StopAtReturn(number if number != -1 else None)),
        "StopAtReturn evaluations": (count, lambda: omd.StopAtReturn(1.0, count)),
        "Print": (count, lambda: omd.callbacks.Print(every=count)),
        "make lanes": (count, lambda: omd.envs.make(one, lanes=count)),
        "make distractors": (
            count,
            lambda: omd.envs.make(one, lanes=1, distractors=count if count != 0 else -1),
        ),
        "make kind": (0, lambda: omd.envs.make(one, lanes=1, distractor_kind=pick(["x", ""]))),
        "make dtype": (0, lambda: omd.envs.make(one, lanes=1, dtype=pick(["int32", "float16"]))),
        "solve temperature": (number, lambda: tabular.solve(mdp, number)),
        "solve tolerance": (number, lambda: tabular.solve(mdp, 0.1, tolerance=number)),
        "evaluate policy": (number, lambda: tabular.evaluate(mdp, np.full((2, 2), -1.0))),
        "garnet": (count, lambda: tabular.garnet(0, count, 2, 2)),
    }
    name = pick(list(calls))
    value, call = calls[name]
    return Call("a call of the library", f"{name} {value!r}"[:90], call)


def _many(value: Any) -> bool:
    return isinstance(value, list | tuple)


CALLS = [_config, _made, _mdp, _library]


def calls(seed: int) -> Iterator[Call]:
    """Distinct calls without end, the kinds in turn."""
    rng, seen = random.Random(seed), set()
    while True:
        for make in CALLS:
            found = make(rng)
            if (found.kind, found.name) not in seen:
                seen.add((found.kind, found.name))
                yield found
