# ruff: noqa: E501 (tables of words)
"""Bad inputs by kind, drawn by a seed: command lines, files they read, and calls of the library.

Each is wrong by construction: an answer other than one sentence and exit code 2 is a fault.
"""

from __future__ import annotations

import json
import math
import random
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


NO_NUMBER = ["x", "nan", "inf", "-inf", "1e999", "", " ", "0x10", "1,2", "--", "[1]", "{}", "1e", "e5",
             "true", "½", "1;rm", "$(id)", "%s", "{0}", "[b]1[/b]", "1\n2", "\udcff", "9" * 5000,
             "-" + "9" * 400, "1/0", "None1", "+-1", "'1'", "NaN", "Infinity", "1e309", "٣x"]  # fmt: skip
NO_NAME = ["", " ", "nope", "Nope-v9", "x" * 5000, "a b", "../x", "/", "[b]", "[/b]", "$\\frac{$", "%s%n",
           "\n", "\udcff", "é", "None", "nan", "0", "-1", "a:b", ":", "::", "a:", ":a", "os", "os:path", "json:loads",
           "omd:Nope", "omd.nope:X", "nope:X", "raises:X", "syntax:X", "exits:X", "empty:X", "a.b.c:D", ".a:B", "a..b:C"]  # fmt: skip
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
        words.remove("")
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
    name = rng.choice([n for n, one in SETTINGS.items() if n not in ("env", "env_args") and not one.metadata.get("part")])  # fmt: skip
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
    bad = "--" + rng.choice([option[:place] + rng.choice("qxz") + option[place:], option + "z", "no-" + option, option.upper() + "X"])  # fmt: skip
    return Command("an option that isn't there", (command, "x", bad, "1"))


def _shape(rng: random.Random) -> Command:
    return rng.choice([
        Command("words too many or too few", words)
        for words in [
            ("train",), ("train", "CartPole-v1", "x"), ("train", "CartPole-v1", "--steps"), ("evaluate",),
            ("evaluate", RUN, "x"), ("watch",), ("report",), ("figure",), ("report", RUN, "x"), ("list", "a", "b", "c"),
            ("gradcheck", "ridge", "x"), ("sweep", "a", "b"), ("sweep",), ("nope",), ("Train",), ("--nope",), ("",),
            ("train", "--resume"), ("train", "CartPole-v1", "--quiet=1"), ("sweep", "--dry-run"), ("list", "run", "x"),
            ("list", "environment", "x"), ("watch", RUN, "x"), ("figure", ""), ("figure", "2", "2.0"), ("figure", "-1"),
        ]
    ])  # fmt: skip


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
    text = rng.choice(["x", "=", "a=", "=1", "a=1,a=2", "1a=2", "a b=1", "a=1,,b=2", "a=1=2,b", "nope=1", "max_episode_steps=x",
                       "render_mode=3", "render_mode=nope", "id=1", "self=1", "lambda=1", ",", "a=[b]", "gravity=x",
                       "sutton_barto_reward=", "max_episode_steps=-1", "kwargs=1"])  # fmt: skip
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


def _together(rng: random.Random) -> Command:
    many = str(10 ** rng.randint(12, 17))
    return Command("settings that don't go together", ("train", *rng.choice([
        ("CartPole-v1", "--learner=sac"), ("Pendulum-v1", "--learner=soft-q"),
        ("CartPole-v1", "--objective=mle", f"--hypergradient={rng.choice(['cg', 'gmres', 'dense', 'neumann'])}"),
        ("Pendulum-v1", "--objective=none", "--hypergradient=cg"),
        ("CartPole-v1", "--objective=vaml:model_steps=50", f"--random-steps={rng.randint(1, 40)}"),
        ("CartPole-v1", f"--replay-capacity={rng.randint(10**11, 10**15)}"),
        ("CartPole-v1", f"--batch-size={many}"), ("CartPole-v1", f"--evaluate-episodes={many}"),
        ("CartPole-v1", f"--inner-steps={many}"), ("CartPole-v1", "--objective=mle", f"--model-steps={many}"),
        ("CartPole-v1", "--objective=mle", f"--inner-steps={rng.randint(10**8, 10**9)}"),
        ("CartPole-v1", f"--seeds={rng.randint(10**7, 10**12)}"), ("CartPole-v1", f"--hidden={rng.randint(10**6, 10**12)}"),
        ("CartPole-v1", f"--hidden={rng.randint(90_000, 100_000)}", "--seeds=100"),
        ("CartPole-v1", f"--distractors={rng.randint(10**6, 10**12)}"),
        ("CartPole-v1", f"--distractors={rng.randint(90_000, 100_000)}", "--steps=2000000000"),
        ("CartPole-v1", f"--evaluate-max-steps={many}"), ("CartPole-v1", f"--random-steps={10 ** rng.randint(20, 90)}"),
        ("CartPole-v1", f"--evaluate-every={10 ** rng.randint(20, 90)}"),
        ("CartPole-v1", f"--steps={rng.randint(3 * 10**9, 10**15)}"),
        ("CartPole-v1", f"--objective=vep:values={many}"), ("CartPole-v1", f"--hypergradient=neumann:terms={10**rng.randint(20, 90)}"),
        ("CartPole-v1", f"--hypergradient=nystrom:rank={10**rng.randint(12, 30)}"),
        ("CartPole-v1", f"--hypergradient=gmres:restart={10**rng.randint(12, 30)}"),
        ("CartPole-v1", f"--hypergradient=cg:max_steps={10**rng.randint(20, 90)}"),
        ("CartPole-v1", f"--model=ensemble:members={10**rng.randint(12, 30)}"),
        ("CartPole-v1", "--temperature=1e-50"), ("CartPole-v1", f"--discount={1 - 10.0**-rng.randint(8, 16)!r}"),
        ("CartPole-v1", "--learning-rate=1e40"), ("CartPole-v1", "--tau=1e-60"),
    ])))  # fmt: skip


def _places(rng: random.Random) -> Command:
    there = ("file", b"x")
    return rng.choice([
        Command("names and folders", words, (there,))
        for words in [
            *((("train", "CartPole-v1", f"--name={n}")) for n in ["", ".", "..", "a/b", "a b", "/x", "x" * 300, "[b]", "é/", "\n", "~", "a:b", "-", "$x"]),
            *((("train", "CartPole-v1", f"--out={n}")) for n in ["file", "file/x", "/proc/x", "x" * 300, "file/../file", "/dev/null", "/dev/null/x"]),
            *((("train", f"--resume={n}")) for n in ["file", "", ".", "..", "nowhere", "/", "x" * 300, "/dev/null", "[b]", "\udcff"]),
            *(((command, n)) for command in ("evaluate", "watch", "report") for n in ["file", "", ".", "nowhere", "/", "x" * 300, "/dev/null", "a\nb"]),
            *((("report", RUN, f"--out={n}")) for n in ["nowhere/x.html", ".", RUN, "file/x", "x" * 300, "/proc/x", ""]),
            *((("watch", RUN, f"--out={n}")) for n in ["x.png", "x", "nowhere/x.gif", ".", "", "file/x.gif", "x" * 300 + ".gif", "/proc/x.gif"]),
            *((("list", "run", f"--out={n}")) for n in ["file", "x" * 300]),
            *((("figure", "6", f"--out={n}", "--budget=smoke")) for n in ["file", "file/x", "/proc/x", "x" * 300]),
            *((("sweep", "--tau=0.1", "--dry-run", f"--engine={n}")) for n in []),
            *((("sweep", "--tau=0.1", f"--out={n}")) for n in ["file", "file/x", "/proc/x", "x" * 300, RUN]),
            ("train", "Pendulum-v1", "--resume", RUN), ("train", "--resume", RUN, "--name", "x"),
            ("train", "--resume", RUN, "--tau", "0.5"), ("train", "--resume", RUN, "--seeds", "7"),
            ("train", "--resume", RUN, "--objective", "nope"), ("train", "--resume", RUN, "--env-args", "a=1"),
            ("train", "CartPole-v1", "--track=nope"), ("train", "CartPole-v1", "--track="), ("train", "CartPole-v1", "--track=[b]"),
        ]
    ])  # fmt: skip


def _commands(rng: random.Random) -> Command:
    def one(*words: str) -> tuple[str, ...]:
        return words

    number = rng.choice(["0", "-1", "x", "1.5", "nan", "", str(-(10**20)), "1e3"])
    huge = str(10 ** rng.randint(11, 40))
    seeds = rng.choice(["-1", "x", "1.5", huge, "", "nan"])
    return Command("options of other commands", rng.choice([
        one("evaluate", RUN, f"--episodes={number}"), one("evaluate", RUN, f"--episodes={huge}"),
        one("evaluate", RUN, f"--seed={seeds}"), one("watch", RUN, f"--seed={rng.choice(['7', '-1', 'x', huge])}"),
        one("watch", RUN, f"--steps={number}"), one("watch", RUN, f"--steps={huge}"),
        one("list", rng.choice(["objectivs", "nope", "", "[b]", "runz"])), one("list", rng.choice(list(catalogue.BASES)), rng.choice([n for n in NO_NAME if n not in ("0",)])),
        one("gradcheck", rng.choice(["rigde", "nope", "", "[b]", "1"])),
        one("figure", rng.choice(["0", "9", "10", "x", "1.0", "-", "[b]", "compar", "two"])),
        one("figure", "2", f"--budget={rng.choice(['nope', '', 'Smoke', 'papers', '[b]'])}"), one("figure", "3", f"--projection={rng.choice(['nope', '', 'balls'])}"),
        one("figure", "6", f"--seeds={seeds}"), one("figure", "6", f"--seeds={number}"), one("figure", "2", "--seeds=0"),
        one("figure", "4", f"--sweep={rng.choice(['nowhere', '', RUN, 'x' * 300])}"), one("figure", "2", "--sweep=x"),
        one("figure", "compare"), one("figure", "compare", "--sweep=nowhere"), one("figure", "8"), one("figure", "8", f"--run={rng.choice(['nowhere', '', 'x' * 300])}"),
        one("figure", "2", f"--run={RUN}"), one("figure", "4", f"--workers={number}", "--budget=smoke"), one("figure", "5", f"--engine={rng.choice(['nope', ''])}"),
        one("sweep", "--tau=0.1", f"--workers={number}"), one("sweep", "--tau=0.1", f"--group-size={number}"),
        one("sweep", "--tau=0.1", f"--engine={rng.choice(['nope', 'Local', '', 'rays'])}"), one("sweep", "--tau=0.1", "--address=x"),
        one("sweep", rng.choice(["nope", "paper-figure", "x.toml", "a/b", "", "x" * 300])),
        one("sweep", RUN), one("sweep", f"--seeds={rng.choice(['0', '-1', 'x', huge, '1.5', '0,0', '1,x'])}", "--dry-run"),
        one("sweep", "--dry-run", f"--tau={rng.choice(['x', '0,0', '-1', '1,2', 'nan', '0.1,x', ',', '0.1,,0.2'])}"),
        one("sweep", "--dry-run", "--env=CartPole-v1", f"--objective={rng.choice(['omd,nope', 'mle,', 'vep:values=0', 'vep:values=1,values=2', ','])}"),
        one("sweep", "--dry-run", *(f"--{n}=" + ",".join(str(0.001 * i + 0.001) for i in range(60)) for n in ("tau", "temperature", "epsilon"))),
    ]))  # fmt: skip


TABLES = [
    "", "x", "[base", "about = 3\n", "[grid]\ntau = 0.1", "grid = 3", 'grid = "x"', "grid = []", "grid = [1]", "grid = [[1]]",
    "[[base]]\n[[grid]]\ntau = 0.1", "base = 3\n[[grid]]\ntau = 0.1", "[nope]\n[[grid]]\ntau = 0.1", "[[grid]]\nnope = 1",
    "[base]\nnope = 1\n[[grid]]\ntau = 0.1", "[[grid]]\ntau = 0.1\ntau = 0.2", "[" * 100_000, "a." * 50_000 + "b = 1",
    "grid = " + "[" * 50_000 + "]" * 50_000, '[[grid]]\nenv = "CartPole-v1"\nlearner = "sac"',
]  # fmt: skip
NO_VALUE = ['"x"', "nan", "inf", "[]", "[[1]]", "{}", "true", "-1e300", "1979-05-27", '[1, "x"]', "{a = 1}", '""', "[{}]",
            "[true]", "12:00:00", "1e400", "[1979-05-27]"]  # fmt: skip
NO_PART = [
    "3",
    "[3]",
    "[]",
    "true",
    "{}",
    '["nope"]',
    '"a:b:c"',
    '["nope", 1]',
    '""',
    "[[]]",
    "1979-05-27",
]
NO_SEEDS = [
    "0",
    "-1",
    "[]",
    "[0, 0]",
    "[1.5]",
    '"x"',
    "[-1]",
    "true",
    "1e9",
    "10000000000",
    "[[0]]",
    "{}",
    '["0"]',
    "[4294967296]",
]
NO_ENV = ["3", "[]", "true", '"nope"', '["CartPole-v1", 3]', "{}", '""', "[[]]"]
NO_ENV_ARGS = ["3", "[3]", "true", '"x"', '{"1a" = 1}', "[[1, 2]]"]
NO_RACE = ["3", '"x"', "[]", "{}", '{ over = ["tau"] }', '{ over = ["tau"], first = 0, keep = 2, more = 1 }',
           '{ over = ["nope"], first = 1, keep = 2, more = 1 }', '{ over = ["tau"], first = 1, keep = 9, more = 1 }',
           '{ over = ["tau"], first = 1, keep = 2, more = 1, x = 1 }', '{ over = "seeds", first = 1, keep = 2, more = 1 }',
           "{ over = [1], first = 1, keep = 2, more = 1 }", '{ over = ["tau"], first = 1e3, keep = 2, more = 1 }',
           '{ over = ["tau"], first = 10000000000, keep = 2, more = 1 }', "{ over = [[]], first = 1, keep = 2, more = 1 }",
           '{ over = ["tau"], first = true, keep = 2, more = 1 }']  # fmt: skip


def _toml(rng: random.Random) -> Command:
    name = rng.choice([n for n, one in SETTINGS.items() if one.type in ("number", "whole number")])
    part, many = rng.choice(list(catalogue.BASES)), ", ".join(map(str, range(1, 300)))
    junk = rng.choice(NO_VALUE)
    text = rng.choice([
        rng.choice(TABLES), rng.choice(TABLES), f"[[grid]]\n{name} = {junk}", f"[base]\n{name} = {junk}\n[[grid]]\ndiscount = 0.9",
        f"[[grid]]\n{part} = {rng.choice(NO_PART)}", f"[[grid]]\nseeds = {rng.choice(NO_SEEDS)}",
        f"[[grid]]\nenv = {rng.choice(NO_ENV)}", f"[[grid]]\nenv_args = {rng.choice(NO_ENV_ARGS)}",
        f"[[grid]]\ntau = [0.1, 0.2]\nrace = {rng.choice(NO_RACE)}", f"[[grid]]\nsteps = {10 ** rng.randint(10, 18)}",
        f"[[grid]]\nhidden = {10 ** rng.randint(6, 12)}", f"[[grid]]\ninner_steps = [{many}]\nbatch_size = [{many}]\nhidden = [{many}]",
    ])  # fmt: skip
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
        text = rng.choice(["", "{", "[]", "3", "null", '"x"', "[" * 100_000, '{"a":' * 100_000, "NaN", "{}", '{"version": 2}', '{"version": 1, "env": 3}', '{"checksum": "x"}'])  # fmt: skip
        if text in ("{}", '{"version": 2}'):
            text += " "
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


COMMANDS = [
    _options,
    _unknown,
    _shape,
    _env,
    _env_args,
    _part,
    _together,
    _places,
    _commands,
    _toml,
]


def commands(seed: int, config: dict[str, Any]) -> Iterator[Command]:
    """Distinct command lines without end, the kinds in turn; `config` is a stored configuration."""
    rng = random.Random(seed)
    makers = [*COMMANDS, lambda rng: _stored(rng, config)]
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
    return [object(), Strange(), Strange, b"x", 1j, (), [], {}, set(), lambda: 1, [1, [2]], {"a": 1}, np.array([1.0, np.nan]),
            np.array(["x"]), np.array([[1, 2], [3, 4]]), np.float64("nan"), np.inf, 10**400, -(10**400), "x" * 5000, "\udcff",
            "\0", True, np.bool_(True), slice(3), range(0), float, Ellipsis, NotImplemented, "nan", "1", np.datetime64("nat")]  # fmt: skip


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

    strange = rng.choice(_strange())
    mdp = tabular.paper_mdp()
    bad_number = rng.choice([np.nan, np.inf, -1.0, "x", 1j, [1, 2], {}, -np.inf, "1"])
    return rng.choice([
        Call("a call of the library", f"{name} {value!r}"[:90], call)
        for name, value, call in [
            ("load", strange, lambda: omd.load(strange) if isinstance(strange, str) else omd.load("nowhere")),
            ("results", strange, lambda: omd.results(str(strange)[:50] + "/nowhere")),
            ("train setting", strange, lambda: omd.train("CartPole-v1", nope=strange)),
            ("train callbacks", strange, lambda: omd.train("CartPole-v1", callbacks=[strange if not callable(strange) else 3])),
            ("train track", strange, lambda: omd.train("CartPole-v1", track="nope")),
            ("train name", 0, lambda: omd.train("CartPole-v1", out=None, name="x")),
            ("sweep", strange, lambda: omd.sweep({"grid": strange if not isinstance(strange, list | tuple) else "x"})),
            ("sweep options", strange, lambda: omd.sweep(options={"nope": [1]})),
            ("sweep engine", strange, lambda: omd.sweep({"grid": [{}]}, engine=rng.choice(["x", ""]))),
            ("sweep workers", strange, lambda: omd.sweep({"grid": [{}]}, workers=-rng.randint(0, 100), out=None)),
            ("StopAtReturn", strange, lambda: omd.StopAtReturn(rng.choice([np.nan, "x", np.inf, None]))),
            ("make lanes", strange, lambda: omd.envs.make("CartPole-v1", lanes=rng.choice([0, -1, 1.5, "x", None]))),
            ("make distractors", strange, lambda: omd.envs.make("CartPole-v1", lanes=1, distractors=rng.choice([-1, 1.5, "x", None]))),
            ("make kind", strange, lambda: omd.envs.make("CartPole-v1", lanes=1, distractor_kind=rng.choice(["x", ""]))),
            ("make dtype", strange, lambda: omd.envs.make("CartPole-v1", lanes=1, dtype=rng.choice(["int32", "float16"]))),
            ("solve temperature", bad_number, lambda: tabular.solve(mdp, bad_number)),
            ("solve tolerance", bad_number, lambda: tabular.solve(mdp, 0.1, tolerance=bad_number)),
            ("evaluate policy", bad_number, lambda: tabular.evaluate(mdp, np.full((2, 2), -1.0))),
            ("garnet", bad_number, lambda: tabular.garnet(0, rng.choice([0, -1]), 2, 2)),
            ("check interval", strange, lambda: omd.callbacks.Print(every=-rng.randint(0, 9))),
        ]
    ])  # fmt: skip


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
