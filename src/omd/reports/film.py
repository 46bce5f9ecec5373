"""A moving picture of a trained policy, drawn without a display."""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from omd import envs, memory, parts
from omd.config import env_text
from omd.envs import host
from omd.errors import InputError, install
from omd.parts import reason_of
from omd.runs import files, folder
from omd.runs.run import Run, load

STEPS = 300
"""Steps that are shown by default; an episode that ends before ends the picture."""
GIF_RATE, GIF_HEIGHT = 25, 320
"""Pictures a second and their height, at most: a GIF of everything would be tens of megabytes."""
FORMATS = (".gif", ".mp4")

Frame = UInt8[np.ndarray, "height width 3"]

# gymnax's classic control moves as Gymnasium's does, whose renderer draws from these numbers
_POSES: dict[str, tuple[str, ...]] = {
    "CartPole-v1": ("x", "x_dot", "theta", "theta_dot"),
    "Acrobot-v1": ("joint_angle1", "joint_angle2", "velocity_1", "velocity_2"),
    "MountainCar-v0": ("position", "velocity"),
    "MountainCarContinuous-v0": ("position", "velocity"),
    "Pendulum-v1": ("theta", "theta_dot"),
}


def watch(
    run: Run | str | os.PathLike,
    out: str | os.PathLike | None = None,
    *,
    seed: int | None = None,
    steps: int | None = None,
    track: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> pathlib.Path:
    """Write a GIF or MP4 of a run's policy, acting without noise, and return its path.

    `run` is a run or its folder. `out` is `policy.gif` in that folder by default; `seed` picks one
    of the run's, the first by default. The picture ends with the episode, or after `steps`, through
    several episodes if need be. `track` is given the steps to go through them, to show progress.
    Raises `InputError` before anything is written if the environment can't be drawn or a package
    is missing.
    """
    run = load(run) if isinstance(run, str | os.PathLike) else run
    path = run.folder / "policy.gif" if out is None else parts.path("out", out)
    _check(path, steps)
    imageio = _imageio(path)
    config = run.config
    make = functools.partial(folder.make_env, config, lanes=1)
    with _variables(), folder.precision(config):
        stage = _stage(config.env, make)
        with envs.host_errors(stage.env):
            frames, rate = _play(run, stage, seed, steps, track, small=path.suffix == ".gif")
        stage.env.close()
    settings: dict[str, Any] = {"duration": 1000 / rate, "loop": 0}
    if path.suffix == ".mp4":
        settings = {"fps": rate, "macro_block_size": 2}
        frames = [frame[: len(frame) // 2 * 2, : frame.shape[1] // 2 * 2] for frame in frames]
    with _variables(), files.atomic(path) as temporary:
        try:
            imageio.imwrite(temporary, frames, extension=path.suffix, **settings)
        except OSError:
            raise
        except Exception as error:  # whatever its writers say of pictures that they can't take
            raise InputError(
                f"no {path.suffix} can be made of pictures of {list(frames[0].shape)} "
                f"({reason_of(error)}): give --out with another of {' and '.join(FORMATS)}"
            ) from error
    return path


class _Stage:
    """An environment of one lane, and how its state is drawn."""

    def __init__(self, env: Any, draw: Callable[[Any], Frame], rate: float) -> None:
        self.env, self.draw, self.rate = env, draw, rate


def _stage(env_of_run: Any, make: Callable[..., Any]) -> _Stage:
    """The environment that the run was trained in, with a renderer; raises `InputError`."""
    id, env = env_text(env_of_run), make()
    if env.on_host:
        env.close()
        env = make(render_mode="rgb_array")
        inner = getattr(env, "unwrapped", env)
        return _Stage(env, lambda state: inner.render()[0], inner.frames_per_second)
    source = envs.resolve(env_of_run)
    backend, name = source.backend, source.made
    if name not in _POSES and backend != "mjx":
        raise InputError(
            f"environment {id!r} has no renderer: those of gymnax that have one are "
            f"{', '.join(_POSES)}, and all of Gymnasium that offer 'rgb_array'"
        )
    painter = host.build(name, name, "rgb_array")
    painter.reset(seed=0)

    def draw(state: Any) -> Frame:
        if backend == "mjx":
            painter.unwrapped.set_state(np.array(state.position[0]), np.array(state.velocity[0]))
        else:
            pose = [float(getattr(state, part)[0]) for part in _POSES[name]]
            painter.unwrapped.state = np.array(pose)
        return painter.render()

    return _Stage(env, draw, float(painter.metadata["render_fps"]))


def _play(
    run: Run,
    stage: _Stage,
    seed: int | None,
    steps: int | None,
    track: Callable[[Iterable[int]], Iterable[int]],
    *,
    small: bool,
) -> tuple[list[Frame], float]:
    """Pictures of the policy, and how many of them make a second."""
    stride = max(1, int(np.ceil(stage.rate / GIF_RATE))) if small else 1
    known = run.config.seed_list
    root = jax.random.key(seed if seed in known else known[0])
    keys = jax.random.split(jax.random.fold_in(root, 2**31), 1)
    step = stage.env.step if stage.env.on_host else jax.jit(stage.env.step)
    state, observation = jax.block_until_ready(stage.env.reset(keys))
    act = functools.partial(run.act, seed=seed)
    act(np.asarray(observation[0]))  # a seed that is none of the run's is told before drawing
    name = env_text(run.config.env)
    frames = [_drawn(name, functools.partial(stage.draw, state))]
    memory.check_frames((steps or STEPS) // stride * frames[0].nbytes)
    for index in track(range(1, (steps or STEPS) + 1)):
        action = act(np.asarray(observation[0]))[None]
        keys = jax.vmap(lambda key, i=index: jax.random.fold_in(key, i))(keys)
        state, after = jax.block_until_ready(step(state, jax.numpy.asarray(action), keys))
        observation = after.observation
        if steps is None and bool(after.terminated[0] | after.truncated[0]):
            break
        if index % stride == 0:
            frames.append(_drawn(name, functools.partial(stage.draw, state), frames[0]))
    if small:
        factor = -(-len(frames[0]) // GIF_HEIGHT)
        frames = [_shrunk(frame, factor) for frame in frames]
    return frames, stage.rate / stride


@contextlib.contextmanager
def _variables() -> Iterator[None]:
    """What renderers and FFmpeg's wrapper read from the environment, for the block, as far as it
    isn't set."""
    wanted = {
        "SDL_AUDIODRIVER": "dummy",
        "PYGAME_HIDE_SUPPORT_PROMPT": "1",
        # else it forks, which may hang beside JAX's threads
        "IMAGEIO_FFMPEG_NO_PREVENT_SIGINT": "1",
    }
    if not os.environ.get("DISPLAY"):
        wanted["MUJOCO_GL"] = "egl"  # Gymnasium would ask for a window first
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _drawn(id: str, draw: Callable[[], Any], like: Frame | None = None) -> Frame:
    """A picture, of the size of another; raises `InputError` where the renderer gives none."""
    import gymnasium

    try:
        frame = draw()
    except gymnasium.error.DependencyNotInstalled as error:
        raise InputError(
            f"drawing {id!r} needs a package that is missing: run `{install('watch')}`"
        ) from error
    except Exception as error:
        hint = "mend its render"
        if "mujoco" in sys.modules:
            hint = (
                "MuJoCo draws without a display by EGL or OSMesa, libraries of the system; on "
                "Debian and Ubuntu, `apt install libegl1 libgl1-mesa-dri` and MUJOCO_GL=egl"
            )
        raise InputError(f"{id!r} can't be drawn here ({reason_of(error)}): {hint}") from error
    if not isinstance(frame, np.ndarray) or frame.ndim != 3:
        raise InputError(f"environment {id!r} has no renderer that gives pictures ('rgb_array')")
    if frame.dtype != np.uint8 or frame.shape[2] not in (3, 4) or not frame.size:
        raise InputError(
            f"environment {id!r} renders {frame.dtype}{list(frame.shape)}, where a picture is "
            "uint8[height, width, 3]: mend its render"
        )
    if like is not None and frame.shape[:2] != like.shape[:2]:
        raise InputError(
            f"environment {id!r} renders pictures of {frame.shape[:2]} and of {like.shape[:2]} "
            "pixels, but those of a film have one size: mend its render"
        )
    return frame[..., :3]


def _shrunk(frame: Frame, factor: int) -> UInt8[np.ndarray, "rows columns 3"]:
    """Means over squares of `factor` pixels."""
    height, width = (size // factor for size in frame.shape[:2])
    cut = frame[: height * factor, : width * factor, :3].astype(np.uint16)
    squares = cut.reshape(height, factor, width, factor, 3)
    return (squares.sum((1, 3)) // factor**2).astype(np.uint8)


def _check(path: pathlib.Path, steps: int | None) -> None:
    if path.suffix not in FORMATS:
        raise InputError(f"out is {str(path)!r}: give a name that ends in {' or '.join(FORMATS)}")
    files.check_new_file(path)
    if steps is not None:
        parts.count("steps", steps)


def _imageio(path: pathlib.Path) -> Any:
    try:
        import imageio.v3

        if path.suffix == ".mp4":
            import imageio_ffmpeg  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"writing a {path.suffix} needs a package that is missing: run `{install('watch')}`"
        ) from error
    return imageio.v3
