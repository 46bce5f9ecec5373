"""Rollouts of the model under the current policy, and the buffer of the transitions they make.

Source: Janner, Fu, Zhang, Levine, "When to trust your model: model-based policy optimization"
(2019), algorithm 2. Unlike there, a few states begin a rollout at each update, not many now and
then, and the end of an episode is learned.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from omd.agents import networks
from omd.agents.learners.learner import LearnerState
from omd.agents.objectives.objective import Context
from omd.settings import Settings
from omd.types import EnvSpec, Metrics, PyTree, Transition

LOGIT_BEFORE_DATA = -math.log(99)
"""Of an end: 1 in 100 transitions, until the data say more."""


class Rollouts(NamedTuple):
    """What rollouts keep from one update to the next."""

    made: Transition
    """The model buffer, a ring; leaves are [slots, ...]."""
    added: Int[Array, ""]
    """Transitions added; once the buffer is full, its slots plus the next one to be written."""
    ends: PyTree
    """Parameters of what tells ends; nothing where episodes never end."""
    moments: PyTree
    """The optimiser's, for these."""


def init(key: Array, context: Context, spec: EnvSpec, settings: Settings) -> Rollouts:
    """An empty buffer, and a network for the ends."""
    slots, dtype = settings.model_slots, jnp.dtype(settings.precision)
    observation = jnp.zeros((slots, spec.observation_size), dtype)
    action = jnp.zeros(slots, jnp.int32)
    if spec.num_actions is None:
        action = jnp.zeros((slots, spec.action_size or 0), dtype)
    reward, ended = jnp.zeros(slots, dtype), jnp.zeros(slots, bool)
    ends: PyTree = ()
    moments: PyTree = ()
    if settings.rollout_ends == "learned":
        ends = networks.orthogonal_mlp(
            key,
            spec.observation_size,
            1,
            settings.hidden,
            dtype,
            activation=settings.model_activation,
        )
        moments = context.optimizer.init(ends)
    return Rollouts(
        Transition(observation, action, reward, observation, ended),
        jnp.zeros((), jnp.int32),
        ends,
        moments,
    )


def end_logits(ends: PyTree, reached: Float[Array, "batch obs"]) -> Float[Array, " batch"]:
    """Logits of the probability that the episode ends in each state that was reached."""
    return networks.apply(ends, reached.T)[0] + LOGIT_BEFORE_DATA


def learn_ends(kept: Rollouts, batch: Transition, context: Context) -> Rollouts:
    """After one step of the model's optimiser on the cross-entropy of the true transitions'
    terminations."""
    if kept.ends == ():
        return kept

    def loss(ends):
        logits = end_logits(ends, batch.next_observation)
        labels = batch.terminated.astype(logits.dtype)
        return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, labels))

    updates, moments = context.optimizer.update(jax.grad(loss)(kept.ends), kept.moments, kept.ends)
    return kept._replace(ends=optax.apply_updates(kept.ends, updates), moments=moments)


def unroll(
    theta: PyTree,
    ends: PyTree,
    learner: LearnerState,
    starts: Transition,
    steps: int,
    context: Context,
    key: Array,
) -> Transition:
    """`steps` steps of the model from each of the minibatch's states, along the policy's actions:
    leaves are [steps, batch, ...].

    An entry whose episode ended begins again at its first state, so that every transition is one
    of an episode that goes on.
    """

    def step(observation, key):
        acting, predicting = jax.random.split(key)
        action, _ = context.learner.sample(learner, observation, context.hyper, acting)
        asked = starts._replace(observation=observation, action=action)
        predicted = context.predict(theta, asked, predicting)
        ended = has_ended(ends, predicted.sample)
        made = Transition(observation, action, predicted.reward, predicted.sample, ended)
        return jnp.where(ended[:, None], starts.observation, predicted.sample), made

    return jax.lax.scan(step, starts.observation, jax.random.split(key, steps))[1]


def has_ended(ends: PyTree, reached: Float[Array, "batch obs"]) -> Bool[Array, " batch"]:
    """Whether the end of the episode is more probable than not."""
    if ends == ():
        return jnp.zeros(reached.shape[0], bool)
    return end_logits(ends, reached) > 0


def add(kept: Rollouts, made: Transition) -> Rollouts:
    """With these transitions, leaves [steps, batch, ...], in place of the oldest. They must not be
    more than the buffer has slots."""
    rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), made)
    slots, count = kept.made.reward.shape[0], rows.reward.shape[0]
    places = (kept.added + jnp.arange(count)) % slots
    buffer = jax.tree.map(lambda old, new: old.at[places].set(new), kept.made, rows)
    added = kept.added + count
    return kept._replace(made=buffer, added=jnp.where(added < 2 * slots, added, added - slots))


def mixed(kept: Rollouts, real: Transition, share: float, key: Array) -> Transition:
    """A minibatch whose first entries are `real`'s, as many as `share` says, and whose others are
    drawn uniformly from the model buffer."""
    size = real.reward.shape[0]
    count = round(share * size)
    held = jnp.minimum(kept.added, kept.made.reward.shape[0])
    places = jax.random.randint(key, (size - count,), 0, held)
    return jax.tree.map(
        lambda mine, made: jnp.concatenate([mine[:count], made[places]]), real, kept.made
    )


def after(
    kept: Rollouts,
    theta: PyTree,
    learner: LearnerState,
    starts: Transition,
    context: Context,
    settings: Settings,
) -> tuple[Rollouts, Metrics]:
    """With what the model makes from these states, and the share of it that ends an episode."""
    kept = learn_ends(kept, starts, context)
    key = jax.random.fold_in(context.key, 4)
    made = unroll(theta, kept.ends, learner, starts, settings.rollout, context, key)
    return add(kept, made), {"rollout_ended": jnp.mean(made.terminated.astype(made.reward.dtype))}
