"""MDPs ready-made: the paper's, Garnet random ones, grid worlds, Gymnasium's toy text."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import gymnasium
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from omd.errors import InputError, in_a_line
from omd.tabular.checks import check_count, real_array
from omd.tabular.kernels import Numbers, Successors, check_pairs, lists_of_successors
from omd.tabular.mdp import MDP


def paper_mdp() -> MDP:
    """The 2-state, 2-action MDP of figure 3 (top left), γ = 0.9, uniform start."""
    transition = [[[0.7, 0.3], [0.99, 0.01]], [[0.2, 0.8], [0.99, 0.01]]]
    return MDP(np.asarray(transition), np.asarray([[-0.45, -0.1], [0.5, 0.5]]), np.asarray(0.9))


def garnet(
    seed: int,
    states: int,
    actions: int,
    branching: int,
    *,
    discount: float = 0.95,
    sparse: bool = False,
) -> MDP:
    """A Garnet random MDP: `branching` distinct successors of every state-action pair.

    Successors are drawn uniformly, their probabilities are the spacings of branching − 1 uniform
    points, rewards are uniform in [0, 1), the start is uniform. One seed gives one MDP, dense or
    sparse alike. Raises `InputError` where branching lies outside 1..states.
    """
    for name, count in (("states", states), ("actions", actions), ("branching", branching)):
        check_count(name, count)
    check_count("seed", seed, 0)
    if not 1 <= branching <= states:
        raise InputError(
            f"garnet needs states, actions >= 1 and branching between 1 and the number of states, "
            f"but got states={states}, actions={actions}, branching={branching}; lower branching."
        )
    _check_size(states, actions, branching, sparse=sparse)
    rng = np.random.default_rng(seed)
    rows = states * actions
    index = _distinct(rng, rows, states, branching)
    cuts = np.sort(rng.random((rows, branching - 1)), axis=-1)
    probability = np.diff(cuts, axis=-1, prepend=0.0, append=1.0)
    reward = rng.random((states, actions))
    shape = (states, actions, branching)
    transition = _stored(index.reshape(shape), probability.reshape(shape), sparse=sparse)
    return MDP(transition, reward, np.asarray(discount))


def grid_world(
    rows: int,
    columns: int,
    *,
    goals: Iterable[tuple[int, int]] | None = None,
    walls: Iterable[tuple[int, int]] = (),
    slip: float = 0.0,
    step_reward: float = 0.0,
    goal_reward: float = 1.0,
    discount: float = 0.95,
    sparse: bool = False,
) -> MDP:
    """A grid of rows × columns cells (state = row · columns + column) with up, right, down, left.

    A move succeeds with probability 1 − slip and goes to either side with slip / 2; walls and the
    border keep the walker in place. Entering a goal (by default the last cell) earns
    `goal_reward`, any other step `step_reward`; goals absorb with reward 0. The start is uniform
    over the open cells that are no goals. Walls are states that nothing reaches. Raises
    `InputError` for a cell outside the grid, slip outside [0, 1] or no open cell to start from.
    """
    check_count("rows", rows)
    check_count("columns", columns)
    cells = rows * columns
    _check_size(cells, 4, 3, sparse=sparse)
    slip = _number("slip", slip)
    step_reward = _number("step_reward", step_reward)
    goal_reward = _number("goal_reward", goal_reward)
    goal = _cells("goals", [(rows - 1, columns - 1)] if goals is None else goals, rows, columns)
    wall = _cells("walls", walls, rows, columns)
    if not 0 <= slip <= 1:
        raise InputError(f"slip must lie in [0, 1], but is {slip}; it is a probability.")
    start = ~(goal | wall)
    if not start.any():
        raise InputError(
            f"a grid of {rows} x {columns} has no cell left to start from; "
            "remove some goals or walls."
        )
    row, column = np.divmod(np.arange(cells), columns)
    moves = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)])
    target_row = np.clip(row[:, None] + moves[:, 0], 0, rows - 1)
    target_column = np.clip(column[:, None] + moves[:, 1], 0, columns - 1)
    target = target_row * columns + target_column
    stay = np.arange(cells)[:, None]
    target = np.where(wall[target] | (goal | wall)[:, None], stay, target)

    index = np.stack([target, np.roll(target, 1, axis=1), np.roll(target, -1, axis=1)], axis=-1)
    probability = np.broadcast_to([1 - slip, slip / 2, slip / 2], index.shape)
    earned = np.where(goal[index], goal_reward, step_reward)
    reward = np.where((goal | wall)[:, None], 0.0, (probability * earned).sum(axis=-1))
    return MDP(
        _stored(index, probability, sparse=sparse),
        reward,
        np.asarray(discount),
        start / start.sum(),
    )


def with_distractors(mdp: MDP, chain: Numbers) -> MDP:
    """The MDP with a second factor of the state that moves by itself and doesn't matter.

    `chain` [Z, Z'] holds the factor's transition probabilities. State (s, z) is number s · Z + z;
    the factor starts uniformly. Values and policies are those of the MDP, whatever z. Raises
    `InputError` for sparse transitions, a chain that isn't square, and rows that are no
    distributions.
    """
    moves = real_array("chain", chain)
    if moves.ndim != 2 or moves.shape[0] != moves.shape[1] or not moves.size:
        raise InputError(f"chain has shape {moves.shape}: give a square matrix [Z, Z]")
    if mdp.is_sparse:
        raise InputError(
            "distractors are added to dense transitions, but those given are sparse; build the MDP "
            "from transition.todense()."
        )
    transition = np.asarray(mdp.transition)
    states, actions = transition.shape[:2]
    count = len(moves)
    # in the precision that the rows of the MDP have: float32 doesn't sum to 1 as float64 does
    both = np.einsum("sat,zw->szatw", transition, moves).astype(transition.dtype)
    return MDP(
        both.reshape(states * count, actions, states * count),
        np.repeat(np.asarray(mdp.reward), count, axis=0),
        mdp.discount,
        np.repeat(np.asarray(mdp.initial), count) / count,
    )


def from_gymnasium(id: str, *, discount: float = 0.99, sparse: bool = False, **kwargs: Any) -> MDP:
    """The MDP behind a Gymnasium toy-text environment (FrozenLake, CliffWalking, Taxi).

    Reads the table that the environment carries; `kwargs` go to `gymnasium.make`. A transition
    that terminates an episode leads to one extra state, the last, which absorbs with reward 0, so
    there is one state more than Gymnasium has. Time limits are left out. Raises `InputError` for
    an environment without a table.
    """
    try:
        environment = gymnasium.make(id, **kwargs)
    except Exception as error:  # whatever an environment says of its arguments
        raise InputError(f"Gymnasium can't make {id!r}: {in_a_line(error)}") from error
    try:
        table = getattr(environment.unwrapped, "P", None)
        start = getattr(environment.unwrapped, "initial_state_distrib", None)
    finally:
        environment.close()
    if table is None or start is None:
        raise InputError(f"{id} carries no transition table; use FrozenLake, CliffWalking or Taxi.")
    states, actions = len(table), len(table[0])
    width = max(len(outcomes) for row in table.values() for outcomes in row.values())
    index = np.full((states + 1, actions, width), states)
    probability = np.zeros(index.shape)
    reward = np.zeros((states + 1, actions))
    probability[states, :, 0] = 1.0
    for s, row in table.items():
        for a, outcomes in row.items():
            for k, (weight, successor, earned, terminated) in enumerate(outcomes):
                index[s, a, k] = states if terminated else successor
                probability[s, a, k] = weight
                reward[s, a] += weight * earned
    return MDP(
        _stored(index, probability, sparse=sparse),
        reward,
        np.asarray(discount),
        np.append(start, 0.0),
    )


def from_csr(
    transition: Any,
    reward: Numbers,
    discount: Numbers,
    initial: Numbers | None = None,
    *,
    mask: Numbers | None = None,
) -> MDP:
    """The MDP of a SciPy sparse matrix [S·A, S'] with row s·A + a, kept as `Successors`.

    Raises `InputError` for anything else than a SciPy sparse matrix or array, another shape, and
    as `MDP`.
    """
    if not scipy.sparse.issparse(transition):
        raise InputError(
            f"from_csr needs a SciPy sparse matrix, but got {type(transition).__name__}; "
            "give arrays to tabular.MDP itself."
        )
    check_pairs(transition.shape)
    matrix = scipy.sparse.csr_array(transition)
    entries = matrix.tocoo()
    rows, states = matrix.shape
    index, rank = lists_of_successors(entries.coords[0], entries.coords[1], rows)
    probability = np.zeros(index.shape, entries.data.dtype)
    probability[entries.coords[0], rank] = entries.data
    shape = (states, rows // states, index.shape[-1])
    lists = Successors(index.reshape(shape), probability.reshape(shape))
    return MDP(lists, reward, discount, initial, mask=mask)


def from_callables(
    states: Sequence[Hashable],
    actions: Callable[[Hashable], Iterable[Hashable]],
    successors: Callable[[Hashable, Hashable], Mapping[Hashable, float]],
    reward: Callable[[Hashable, Hashable, Hashable], float],
    *,
    discount: float,
    initial: Mapping[Hashable, float] | None = None,
) -> MDP:
    """The MDP that functions describe, with the states and actions as its labels.

    `actions(s)` are the choices at a state, `successors(s, a)` their outcomes with probabilities,
    `reward(s, a, s')` what a transition earns; `initial` is uniform where it is left out. Raises
    `InputError` for a state without actions, a successor that is no state, and as `MDP`.
    """
    for name, function in (("actions", actions), ("successors", successors), ("reward", reward)):
        if not callable(function):
            raise InputError(
                f"{name} must be a function, but is a {type(function).__name__}; give "
                "actions(s), successors(s, a) and reward(s, a, s')."
            )
    states = list(states)
    number = {state: i for i, state in enumerate(states)}
    if not number or len(number) != len(states):
        raise InputError(
            f"states needs different ones, at least one, but has {len(states)}, of which "
            f"{len(number)} differ."
        )
    offered = [list(actions(state)) for state in states]
    labels = list(dict.fromkeys(action for some in offered for action in some))
    outcomes = {
        (s, a): dict(successors(s, a))
        for s, some in zip(states, offered, strict=True)
        for a in some
    }
    width = max((len(o) for o in outcomes.values()), default=1)
    shape = (len(number), max(len(labels), 1), width)
    index, probability, earned = np.zeros(shape, np.int32), np.zeros(shape), np.zeros(shape)
    mask = np.zeros(shape[:2], bool)
    column = {action: a for a, action in enumerate(labels)}
    for (state, action), outcome in outcomes.items():
        at = number[state], column[action]
        mask[at] = True
        for k, (successor, weight) in enumerate(outcome.items()):
            if successor not in number:
                raise InputError(
                    f"{action!r} at {state!r} leads to {successor!r}, which is none of the states."
                )
            index[(*at, k)] = number[successor]
            probability[(*at, k)] = weight
            earned[(*at, k)] = reward(state, action, successor)
    start = None if initial is None else [float(initial.get(state, 0.0)) for state in states]
    return MDP(
        Successors(index, probability),
        earned,
        np.asarray(discount),
        start,
        mask=mask,
        states=[str(state) for state in states],
        actions=[str(action) for action in labels],
    )


MOST_NUMBERS = 10**10
"""Of an MDP made here: 80 GB in float64."""


def _check_size(states: int, actions: int, successors: int, *, sparse: bool) -> None:
    """Raises `InputError` where an MDP has too many numbers, before memory is asked for."""
    count = states * actions * (successors if sparse else max(successors, states))
    if count > MOST_NUMBERS:
        hint = "give fewer states" if sparse else "give fewer states, or sparse=True"
        raise InputError(
            f"{states:,} states with {actions} actions have {count:.3g} numbers, which take "
            f"{8 * count / 1e9:,.0f} GB of memory; {hint}."
        )


def _number(name: str, value: Any) -> float:
    """A real number; raises `InputError` for anything else."""
    array = real_array(name, value)
    if array.shape:
        raise InputError(f"{name} must be one number, but has shape {array.shape}.")
    return float(array)


def _stored(index: np.ndarray, probability: np.ndarray, *, sparse: bool) -> np.ndarray | Successors:
    """Lists of successors [S, A, K] as they are, or as a dense array [S, A, S]."""
    if sparse:
        return Successors(jnp.asarray(index, jnp.int32), jnp.asarray(probability))
    states, actions, _ = index.shape
    dense = np.zeros((states, actions, states))
    s, a = np.ogrid[:states, :actions]
    np.add.at(dense, (s[..., None], a[..., None], index), probability)
    return dense


def _distinct(rng: np.random.Generator, rows: int, states: int, branching: int) -> np.ndarray:
    """`branching` distinct numbers below `states` in each of `rows` rows, uniformly, sorted."""
    index = np.sort(rng.integers(states, size=(rows, branching)), axis=-1)
    while branching**2 <= states:
        again = np.flatnonzero((np.diff(index, axis=-1) == 0).any(axis=-1))
        if not again.size:
            return index
        index[again] = np.sort(rng.integers(states, size=(again.size, branching)), axis=-1)
    order = rng.random((rows, states)).argpartition(branching - 1, axis=-1)[:, :branching]
    return np.sort(order, axis=-1)


def _cells(name: str, cells: Iterable[tuple[int, int]], rows: int, columns: int) -> np.ndarray:
    mask = np.zeros((rows, columns), bool)
    if not isinstance(cells, Iterable):
        raise InputError(f"{name} must be cells (row, column), but is {cells!r}.")
    for cell in cells:
        if np.shape(cell) != (2,) or np.asarray(cell).dtype.kind not in "iu":
            raise InputError(f"{name} must be cells (row, column), but one is {cell!r}.")
        row, column = cell
        if not (0 <= row < rows and 0 <= column < columns):
            raise InputError(
                f"{name} has the cell {(row, column)} outside the grid of {rows} x {columns}; "
                "count rows and columns from 0."
            )
        mask[row, column] = True
    return mask.ravel()
