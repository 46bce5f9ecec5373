"""Observed choices: who was where, what they did, where they went."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from omd.errors import InputError
from omd.tabular.checks import check_count
from omd.tabular.kernels import Numbers, as_kernel
from omd.tabular.mdp import MDP
from omd.tabular.solvers import check_policy


class Panel(NamedTuple):
    """N agents over T periods; every array [N, T]."""

    state: Int[np.ndarray, "N T"]
    action: Int[np.ndarray, "N T"]
    next_state: Int[np.ndarray, "N T"]

    def check(self, mdp: MDP) -> None:
        """Raises `InputError` for numbers outside the MDP, or the choice of a masked action."""
        for name, values, count in (
            ("state", self.state, mdp.num_states),
            ("action", self.action, mdp.num_actions),
            ("next_state", self.next_state, mdp.num_states),
        ):
            seen = np.asarray(values)
            if seen.shape != np.shape(self.state) or seen.ndim != 2 or not seen.size:
                raise InputError(
                    f"{name} has shape {seen.shape}; a panel needs [N, T] for all three arrays, "
                    "with one agent and one period at least."
                )
            if not np.issubdtype(seen.dtype, np.integer):
                raise InputError(
                    f"{name} must be whole numbers, but its type is {seen.dtype}; convert it to "
                    "integers."
                )
            wrong = (seen < 0) | (seen >= count)
            if wrong.any():
                n, t = np.argwhere(wrong)[0]
                raise InputError(
                    f"{name} of agent {n} in period {t} is {seen[n, t]}, but the MDP numbers them "
                    f"0 to {count - 1}."
                )
        if mdp.mask is None:
            return
        taken = ~np.asarray(mdp.mask)[self.state, self.action]
        if taken.any():
            n, t = np.argwhere(taken)[0]
            raise InputError(
                f"agent {n} takes action {self.action[n, t]} at state {self.state[n, t]} in "
                f"period {t}, but the MDP doesn't offer it there; correct the data or the mask."
            )

    def table(self, mdp: MDP, weights: Numbers | None = None) -> Float[np.ndarray, "S A"]:
        """How often each action was taken in each state, each agent counted `weights`[N] times.

        Raises `InputError` as `check` does, and for weights that are not one finite number, 0 or
        above, for each agent.
        """
        self.check(mdp)
        counts = np.zeros((mdp.num_states, mdp.num_actions))
        if weights is None:
            np.add.at(counts, (self.state, self.action), 1.0)
            return counts
        each = np.asarray(weights)
        if each.shape != np.shape(self.state)[:1] or not (np.isfinite(each) & (each >= 0)).all():
            raise InputError(
                f"weights have shape {each.shape} and values {each.ravel()[:3].tolist()}, …; give "
                f"one finite number, 0 or above, for each of the {len(self.state)} agents."
            )
        np.add.at(counts, (self.state, self.action), each[:, None].astype(float))
        return counts

    def counts(self, mdp: MDP) -> Float[np.ndarray, "N S A"]:
        """How often each agent took each action in each state."""
        agents = len(self.state)
        counts = np.zeros((agents, mdp.num_states, mdp.num_actions))
        np.add.at(counts, (np.arange(agents)[:, None], self.state, self.action), 1.0)
        return counts


def check_panel(panel: Panel, mdp: MDP) -> None:
    """Raises `InputError` for what is no `Panel`, and as `Panel.check` does."""
    if not isinstance(panel, Panel):
        raise InputError(
            f"observations must be a tabular.estimation.Panel, but are a {type(panel).__name__}; "
            "use Panel(state, action, next_state), each [N, T]."
        )
    panel.check(mdp)


def simulate(mdp: MDP, policy: Numbers, agents: int, periods: int, *, seed: int) -> Panel:
    """A panel of agents that start from the initial distribution and follow a policy π[S, A].

    One seed gives one panel. Raises `InputError` without any agent or period, for a negative seed,
    and for a policy that `evaluate` refuses.
    """
    for name, count, minimum in (("agents", agents, 1), ("periods", periods, 1), ("seed", seed, 0)):
        check_count(name, count, minimum)
    check_policy(mdp, policy)
    rng = np.random.default_rng(seed)
    index, weight = as_kernel(mdp.transition).lists()
    start, choice, move = (
        np.cumsum(np.asarray(x, np.float64), axis=-1) for x in (mdp.initial, policy, weight)
    )
    s = np.searchsorted(start / start[-1], rng.random(agents), side="right")
    s = np.minimum(s, mdp.num_states - 1)
    states, actions, successors = (np.empty((agents, periods), np.int64) for _ in range(3))
    for t in range(periods):
        a = _draw(choice[s], rng)
        k = _draw(move[s, a], rng)
        states[:, t], actions[:, t] = s, a
        s = index[s, a, k]
        successors[:, t] = s
    return Panel(states, actions, successors)


def _draw(cumulative: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One index a row of cumulative weights; those without weight are never drawn."""
    point = rng.random(len(cumulative)) * cumulative[:, -1]
    return (cumulative <= point[:, None]).sum(axis=-1).clip(max=cumulative.shape[-1] - 1)
