"""From an id to a batched environment."""

from __future__ import annotations

import difflib
import importlib
import operator

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from omd.envs import from_gymnasium, from_gymnax, from_mjx
from omd.envs.distractors import DistractedEnv
from omd.envs.from_gymnasium import GymnasiumEnv
from omd.envs.jax_env import JaxEnv
from omd.envs.protocol import Env
from omd.types import InputError


def make(
    id: str,
    *,
    lanes: int,
    distractors: int = 0,
    dtype: DTypeLike = jnp.float32,
    render_mode: str | None = None,
    workers: int | None = None,
) -> Env:
    """Make `lanes` independent copies of an environment that step together.

    An id is looked up in gymnax first, then in Gymnasium; `gymnax:ID`, `gymnasium:ID` and
    `mjx:ID` force one, and `module:ID` imports a module that registers the id. Observations come as
    vectors, discrete ones as one-hot vectors, followed by `distractors` standard normal numbers
    (section 7). `dtype` is that of observations and rewards, and of all floats in the state of a
    JAX environment; float64 needs `jax.enable_x64`. `render_mode` is Gymnasium's. `workers` is how
    many processes step a host environment's lanes, 0 for none; by default those of Gymnasium go to
    one a core where their steps are long enough to gain by it. The numbers are the same.

    Raises `InputError` for an unknown id, with the nearest ones, and for an environment that
    lacks a package or has spaces that agents here can't use.
    """
    lanes, distractors = _count("lanes", lanes, 1), _count("distractors", distractors, 0)
    dtype = jnp.dtype(dtype)
    if dtype not in (jnp.float32, jnp.float64):
        raise InputError(f"dtype is {dtype}: use float32 or float64")
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise InputError("dtype is float64, which JAX has turned off: wrap in jax.enable_x64(True)")
    backend, name = resolve(id)
    env: Env
    if backend == "gymnasium":
        if workers is not None:
            workers = _count("workers", workers, 0)
        env = GymnasiumEnv(
            id, name, lanes=lanes, dtype=dtype, render_mode=render_mode, workers=workers
        )
    elif render_mode is not None:
        raise InputError(f"{id!r} runs in JAX and can't be rendered: use 'gymnasium:{name}'")
    else:
        load = from_mjx.load if backend == "mjx" else from_gymnax.load
        env = JaxEnv(id, *load(id, name), lanes=lanes, dtype=dtype)
    return DistractedEnv(env, distractors) if distractors else env


def on_host(id: str) -> bool:
    """Whether `make(id)` gives an environment that runs in Python. Doesn't start JAX."""
    return resolve(id)[0] == "gymnasium"


def available() -> dict[str, list[str]]:
    """Ids by backend, in the order in which `make` looks them up: those of `mjx` are Gymnasium's,
    hence never found without the prefix."""
    return {
        "gymnax": from_gymnax.ids(),
        "gymnasium": from_gymnasium.ids(),
        "mjx": from_mjx.ids(),
    }


def _count(name: str, value: int, least: int) -> int:
    try:
        count = operator.index(value)
    except TypeError:
        count = least - 1
    if count < least:
        raise InputError(f"{name} is {value!r}: give a whole number of at least {least}")
    return count


def resolve(id: str) -> tuple[str, str]:
    """Backend and the id that it knows; raises `InputError` for an unknown id."""
    known = available()
    prefix, colon, rest = id.partition(":")
    backends = [prefix] if colon and prefix in known else list(known)
    module, colon, name = (rest if colon and prefix in known else id).rpartition(":")
    if colon:
        try:
            importlib.import_module(module)
        except Exception as error:
            raise InputError(
                f"environment {id!r} names a module {module!r} that can't be imported: {error}"
            ) from error
        known = available()
    for backend in backends:
        if name in known[backend]:
            return backend, name
    ids = {one.lower(): one for backend in backends for one in known[backend]}
    near = [ids[one] for one in difflib.get_close_matches(name.lower(), ids, cutoff=0.5)]
    hint = f"the nearest are {', '.join(near)}" if near else "no id is near"
    raise InputError(f"unknown environment {id!r}: {hint}; `omd list` shows all")
