"""From an id, a class, a function or an object to a batched environment."""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from omd import parts
from omd.config import MOST_DISTRACTORS, checked_env, env_text
from omd.envs import from_gymnasium, from_gymnax, from_mjx
from omd.envs.distractors import KINDS
from omd.envs.from_gymnasium import GymnasiumEnv
from omd.envs.jax_env import JaxEnv, failed
from omd.envs.protocol import Env
from omd.errors import InputError, closest, nearest


class Source(NamedTuple):
    """Where an environment comes from."""

    backend: str
    """gymnax, mjx, gymnasium; jax for an object of one's own, python for a class or a factory."""
    made: Any
    """An id of the backend, a class or factory, or the object itself."""
    id: str
    """What the user wrote, for messages."""

    @property
    def on_host(self) -> bool:
        """Whether it runs in Python."""
        return self.backend in ("gymnasium", "python")


def make(
    env: Any,
    *,
    lanes: int,
    arguments: Mapping[str, Any] | None = None,
    distractors: int = 0,
    distractor_kind: str = "noise",
    dtype: DTypeLike = jnp.float32,
    render_mode: str | None = None,
    workers: int | None = None,
) -> Env:
    """Make `lanes` independent copies of an environment that step together.

    `env` is an id, a `gymnasium.Env` class or a function that makes one, or a JAX environment
    with gymnax' interface (`reset_env`, `step_env`, `default_params`). An id is looked up in gymnax
    first, then in Gymnasium; `gymnax:ID`, `gymnasium:ID` and `mjx:ID` force one;
    `package.module:ID` imports a module that registers the id, `package.module:Name` takes a class,
    a function or an object from it. `arguments` are what it is made with: keyword arguments of
    `gymnasium.make`, of the class or function, or fields of gymnax' parameters.

    Observations come as vectors, discrete ones as one-hot vectors, followed by `distractors`
    numbers: standard normal ones (section 7), or by `distractor_kind` those of linear dynamics that
    noise ("linear") or the actions too ("controlled") drive. `dtype` is that of observations and
    rewards, and of all floats in the state of a JAX environment; float64 needs `jax.enable_x64`.
    `render_mode` is Gymnasium's. `workers` is how many processes step a host environment's lanes, 0
    for none; by default those of Gymnasium go to one a core where their steps are long enough to
    gain by it. The numbers are the same.

    Raises `InputError` for an unknown id, with the nearest ones, for an environment that can't be
    made, and for one that has spaces that agents here can't use.
    """
    lanes = parts.count("lanes", lanes)
    distractors = parts.count("distractors", distractors, 0, MOST_DISTRACTORS)
    closest("kind of distractors", distractor_kind, KINDS)
    with contextlib.suppress(TypeError):  # what is none is told below
        dtype = jnp.dtype(dtype)
    if dtype not in (jnp.float32, jnp.float64):
        raise InputError(f"dtype is {dtype}: use float32 or float64")
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise InputError("dtype is float64, which JAX has turned off: wrap in jax.enable_x64(True)")
    if not isinstance(arguments, Mapping | None):
        raise InputError(f"arguments is {arguments!r}: give a mapping of names to values")
    source, arguments = resolve(env), dict(arguments or {})
    made: Env
    if source.on_host:
        if workers is not None:
            workers = parts.count("workers", workers, 0)
        made = GymnasiumEnv(
            source.id,
            source.made,
            arguments,
            lanes=lanes,
            dtype=dtype,
            render_mode=render_mode,
            workers=workers,
        )
    elif render_mode is not None:
        raise InputError(
            f"{source.id!r} runs in JAX and can't be rendered: use 'gymnasium:{source.made}'"
        )
    else:
        pair = _LOADERS[source.backend](source.id, source.made, arguments)
        made = JaxEnv(source.id, *pair, lanes=lanes, dtype=dtype)
    return KINDS[distractor_kind](made, distractors) if distractors else made


def on_host(env: Any) -> bool:
    """Whether `make(env)` gives an environment that runs in Python. Doesn't start JAX."""
    return resolve(env).on_host


def _own(id: str, made: Any, arguments: Mapping[str, Any]) -> tuple[Any, Any]:
    """A JAX environment object, or one made by its class, and its parameters."""
    try:
        env = made(**arguments) if isinstance(made, type) else made
        params = env.default_params
        if arguments and env is made:
            params = params.replace(**arguments)
    except Exception as error:
        raise failed(id, error) from error
    return env, params


_LOADERS = {"gymnax": from_gymnax.load, "mjx": from_mjx.load, "jax": _own}


def available() -> dict[str, list[str]]:
    """Ids by backend, in the order in which `make` looks them up: those of `mjx` are Gymnasium's,
    hence never found without the prefix."""
    return {name: ids() for name, ids in BACKENDS.items()}


BACKENDS = {"gymnax": from_gymnax.ids, "gymnasium": from_gymnasium.ids, "mjx": from_mjx.ids}


def resolve(env: Any) -> Source:
    """Where an environment comes from; raises `InputError` for an unknown id."""
    if (source := resolve_early(env)) is not None:
        return source
    known = available()
    backends, name = _parted(env)
    for backend in backends:
        if name in known[backend]:
            return Source(backend, name, env)
    near = nearest(env, [one for backend in backends for one in known[backend]])
    hint = f"the nearest are {', '.join(near)}" if near else "no id is near"
    raise InputError(f"unknown environment {env!r}: {hint}; `omd list environments` shows all")


def resolve_early(env: Any) -> Source | None:
    """The same without importing gymnax, which starts JAX; None where only gymnax can tell.

    Of Gymnasium's ids gymnax has classic control alone, unless somebody imported it already.
    """
    if not isinstance(env, str):
        return _of_object(checked_env(env), env_text(env))
    if env.startswith("object of "):
        raise InputError(
            f"the environment was an {env}, made in Python: give that object again as env"
        )
    backends, name = _parted(env)
    module = env.removesuffix(name).removesuffix(":")
    module = module.removeprefix(backends[0]).removeprefix(":") if len(backends) == 1 else module
    if module:
        imported = parts.imported("environment", env, module)
        if name not in from_gymnasium.ids() and hasattr(imported, name):
            found = getattr(imported, name)
            _check_makes_environments(found, env)
            return _of_object(found, env)
    if backends == ["gymnasium"] or "gymnax" not in sys.modules:
        found = from_gymnasium.registered(name)
        classic = found is not None and "classic_control" in str(found.entry_point)
        if found is not None and "gymnasium" in backends and (len(backends) == 1 or not classic):
            return Source("gymnasium", name, env)
    return None


def _parted(id: str) -> tuple[list[str], str]:
    """The backends that an id may be of, and the id itself."""
    prefix, colon, rest = id.partition(":")
    forced = bool(colon) and prefix in BACKENDS
    return [prefix] if forced else list(BACKENDS), (rest if forced else id).rpartition(":")[2]


def _check_makes_environments(made: Any, id: str) -> None:
    """Raises `InputError` for what a library offers and has nothing to do with environments. The
    text may come from a file of somebody else's, with arguments: `os:system` must not be called."""
    if hasattr(made, "step_env") or not callable(made):
        return
    if isinstance(made, type) and hasattr(made, "step") and hasattr(made, "reset"):
        return
    home = str(getattr(made, "__module__", None))
    module = sys.modules.get(home)
    if module is not None and home.partition(".")[0] not in sys.stdlib_module_names:
        file = getattr(module, "__file__", None) or ""
        own = file and "site-packages" not in file and "dist-packages" not in file
        if own or "gymnasium" in {_home_of(one) for one in vars(module).values()}:
            return
    raise InputError(
        f"environment {id!r} is a {type(made).__name__} of {home}, which makes no environments: "
        "give a gymnasium.Env class, or a function of a module that imports gymnasium"
    )


def _home_of(one: Any) -> str:
    """The package that an object of a module comes from."""
    name = one.__name__ if isinstance(one, types.ModuleType) else getattr(one, "__module__", "")
    return str(name).partition(".")[0]


def _of_object(env: Any, id: str) -> Source:
    if hasattr(env, "step_env"):
        return Source("jax", env, id)
    if callable(env):
        return Source("python", env, id)
    raise InputError(
        f"environment {id!r} is an object that steps in Python: give its class or a function that "
        "makes it, for each lane needs its own"
    )
