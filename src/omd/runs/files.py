"""Files of a run: written atomically, and never able to run code when read."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from omd.errors import InputError
from omd.types import PyTree


@contextlib.contextmanager
def atomic(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A name to write to; it becomes `path` when the block ends well, and vanishes otherwise."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = pathlib.Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: pathlib.Path, values: Mapping[str, Any]) -> None:
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read: {error}") from error


def write_frame(path: pathlib.Path, frame: pd.DataFrame) -> None:
    with atomic(path) as temporary:
        frame.to_parquet(temporary, index=False)


def save_checkpoint(path: pathlib.Path, tree: PyTree, extra: Mapping[str, np.ndarray]) -> None:
    """All arrays of a pytree and of `extra`, in safetensors' format."""
    arrays = {f"state{name}": _plain(leaf) for name, leaf in _named(tree)}
    arrays |= {f"extra/{name}": np.ascontiguousarray(value) for name, value in extra.items()}
    with atomic(path) as temporary:
        save_file(arrays, temporary)


def read_checkpoint(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint by name; raises `InputError` if it can't be read."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"checkpoint {path} can't be read: {error}") from error


def state_of(arrays: Mapping[str, np.ndarray], like: PyTree) -> PyTree:
    """The pytree that `save_checkpoint` wrote; `like` gives its structure, shapes and types
    (`jax.eval_shape` makes one). Raises `InputError` if the arrays are of something else."""
    leaves = []
    for name, leaf in _named(like):
        stored = arrays.get(f"state{name}")
        keys = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        wanted = jax.eval_shape(jax.random.key_data, leaf) if keys else leaf
        if stored is None or (stored.shape, stored.dtype) != (wanted.shape, wanted.dtype):
            found = "nothing" if stored is None else f"{stored.dtype}{list(stored.shape)}"
            raise InputError(
                f"the checkpoint has {found} for {name.strip('/')}, where these settings need "
                f"{wanted.dtype}{list(wanted.shape)}: resume with the settings and version that "
                "wrote it"
            )
        leaves.append(jax.random.wrap_key_data(jnp.asarray(stored)) if keys else stored)
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def extra_of(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What `save_checkpoint` was given beside the pytree."""
    prefix = "extra/"
    return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}


def _named(tree: PyTree) -> list[tuple[str, Any]]:
    leaves, _ = jax.tree.flatten_with_path(tree)
    return [("/" + jax.tree_util.keystr(path, simple=True, separator="/"), x) for path, x in leaves]


def _plain(leaf: Any) -> np.ndarray:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.ascontiguousarray(leaf)
