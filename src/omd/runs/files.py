"""Files of a run: written completely or not at all, checked by a checksum when they are read, and
never able to run code."""

from __future__ import annotations

import contextlib
import hashlib
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
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from omd.errors import InputError, in_a_line
from omd.types import PyTree

CHECKSUM, NOTES = "checksum", "notes"
_NOTES_CHECKSUM = "notes-checksum"
_PARQUET_CHECKSUM = b"omd.checksum"


class FileError(InputError):
    """A file that can't be read, or that isn't as it was written."""


class WriteError(InputError):
    """A file that can't be written."""


@contextlib.contextmanager
def atomic(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A name to write to; it becomes `path` when the block ends well, and vanishes otherwise.

    Raises `WriteError` where the disk is full or the folder can't be written; `path` is then as it
    was before.
    """
    with writing(path):
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=_TEMPORARY + path.suffix
        )
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


_TEMPORARY = ".tmp"


def remove_leftovers(folder: pathlib.Path) -> None:
    """Remove what killed processes have left of files in this folder. Call it only while no other
    process writes there."""
    for leftover in folder.glob(f".*{_TEMPORARY}*"):
        with contextlib.suppress(OSError):
            leftover.unlink()


@contextlib.contextmanager
def writing(path: pathlib.Path) -> Iterator[None]:
    """What the system says against writing `path` becomes a `WriteError` of one sentence."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise WriteError(
            f"{path} can't be written ({in_a_line(error)}): free space, or choose another folder; "
            "what was there before is kept"
        ) from error


def check_writable(folder: pathlib.Path) -> None:
    """Raises `WriteError` where nothing can be written into this folder, or into the first one that
    exists above it. Leaves nothing there."""
    there = folder
    with writing(folder):
        while not there.exists() and there != there.parent:
            there = there.parent
    if not there.is_dir():
        raise WriteError(f"{folder} can't be written: {there} is no folder; choose another one")
    with writing(folder), tempfile.TemporaryFile(dir=there) as file:
        file.write(bytes(4096))
        file.flush()


def check_new_file(path: pathlib.Path) -> None:
    """Raises `InputError` where no file can be written at `path`. Leaves nothing there."""
    if not path.parent.is_dir():
        raise InputError(f"out is {str(path)!r}, but there is no folder {path.parent}: make it")
    if path.is_dir():
        raise InputError(f"out is {str(path)!r}, which is a folder: give the name of a file")
    check_writable(path.parent)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: pathlib.Path, values: Mapping[str, Any]) -> None:
    """A mapping with its checksum."""
    complete = {**values, CHECKSUM: _json_checksum(values)}
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(complete, indent=2) + "\n", encoding="utf-8")


def read_json(path: pathlib.Path, **fields: type) -> dict[str, Any]:
    """The mapping that `write_json` wrote; `fields` are names that it must have, with their types.

    Files of older versions have no checksum. Raises `FileError` for a file that can't be read, that
    holds something else, or that isn't as it was written.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        words = "it is nested too deeply" if isinstance(error, RecursionError) else in_a_line(error)
        raise FileError(f"{path} can't be read: {words}") from error
    if not isinstance(values, dict):
        raise FileError(f"{path} can't be read: it holds no mapping of names to values")
    written = values.pop(CHECKSUM, None)
    if written is not None and written != _json_checksum(values):
        raise FileError(_altered(path))
    for name, kind in fields.items():
        if not isinstance(values.get(name), kind):
            raise FileError(f"{path} can't be read: it has no {name!r} of the kind expected")
    return values


def _json_checksum(values: Mapping[str, Any]) -> str:
    # of what a reader sees, so that spaces and the order of names don't matter
    seen = json.loads(json.dumps(values))
    return _text_checksum(json.dumps(seen, sort_keys=True))


def _altered(path: pathlib.Path) -> str:
    return f"{path} isn't as it was written (its checksum differs): put back a copy of it"


def write_frame(path: pathlib.Path, frame: pd.DataFrame) -> None:
    """A frame as Parquet, with its checksum."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    checksum = _frame_checksum(table.to_pandas())
    metadata = {**(table.schema.metadata or {}), _PARQUET_CHECKSUM: checksum.encode()}
    with atomic(path) as temporary:
        pq.write_table(table.replace_schema_metadata(metadata), temporary)


def read_frame(path: pathlib.Path, *columns: str) -> pd.DataFrame:
    """The frame that `write_frame` wrote; `columns` are those that it must have.

    Raises `FileError` for a file that can't be read, that holds something else, or that isn't as it
    was written.
    """
    try:
        table = pq.ParquetFile(path).read()
        frame = table.to_pandas()
    except Exception as error:  # whatever pyarrow makes of damaged bytes
        raise FileError(f"{path} can't be read: {in_a_line(error)}") from error
    written = (table.schema.metadata or {}).get(_PARQUET_CHECKSUM)
    if written is not None and written.decode("ascii", "replace") != _frame_checksum(frame):
        raise FileError(_altered(path))
    if missing := [name for name in columns if name not in frame]:
        raise FileError(f"{path} can't be read: it has no column {missing[0]!r}")
    return frame


def _frame_checksum(frame: pd.DataFrame) -> str:
    digest = hashlib.sha256()
    digest.update(repr([(str(n), str(t)) for n, t in frame.dtypes.items()]).encode())
    if len(frame) and len(frame.columns):
        digest.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    return digest.hexdigest()


def save_checkpoint(
    path: pathlib.Path,
    tree: PyTree,
    extra: Mapping[str, np.ndarray],
    *,
    notes: Mapping[str, Any] | None = None,
    previous: pathlib.Path | None = None,
) -> None:
    """All arrays of a pytree and of `extra`, in safetensors' format, with their checksum.

    The new file is read back before it takes the place of the old one, which is kept as
    `previous` where that is given. `notes` are what `read_notes` gives. Raises `WriteError` where
    it can't be written.
    """
    arrays = {f"state{name}": _plain(leaf) for name, leaf in _named(tree)}
    arrays |= {f"extra/{name}": np.ascontiguousarray(value) for name, value in extra.items()}
    text = json.dumps(dict(notes or {}), sort_keys=True)
    words = {NOTES: text, _NOTES_CHECKSUM: _text_checksum(text), CHECKSUM: _arrays_checksum(arrays)}
    with atomic(path) as temporary:
        save_file(arrays, temporary, words)
        del arrays
        try:
            read_checkpoint(temporary)
        except FileError as error:
            raise WriteError(
                f"{path} can't be written: what was read back isn't what was written; check the "
                "disk; what was there before is kept"
            ) from error
        if previous is not None and path.exists():
            os.replace(path, previous)


def read_checkpoint(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint by name; raises `FileError` if it can't be read, or isn't as it
    was written. Files of older versions have no checksum."""
    with _checkpoint(path) as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        written = (file.metadata() or {}).get(CHECKSUM)
    if written is not None and written != _arrays_checksum(arrays):
        raise FileError(_altered(path))
    return arrays


def read_notes(path: pathlib.Path) -> dict[str, Any]:
    """The notes of a checkpoint, without reading its arrays; empty in files of older versions.
    Raises `FileError` as `read_checkpoint` does."""
    with _checkpoint(path) as file:
        words = file.metadata() or {}
    if NOTES not in words:
        return {}
    if words.get(_NOTES_CHECKSUM) != _text_checksum(words[NOTES]):
        raise FileError(_altered(path))
    return json.loads(words[NOTES])


@contextlib.contextmanager
def _checkpoint(path: pathlib.Path) -> Iterator[Any]:
    try:
        path.open("rb").close()  # safetensors says of all that can't be opened that it is missing
        with safe_open(path, "numpy") as file:
            yield file
    except Exception as error:  # whatever safetensors and NumPy make of damaged bytes
        raise FileError(f"{path} can't be read: {in_a_line(error)}") from error


def _arrays_checksum(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _text_checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


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
