# %% [markdown]
# # Designing a tabular model, and looking at it
#
# A world with two states and two actions. A model of it may not be larger than a bound: the Euclidean norm of its logits
# and rewards is at most 1. The truth needs nearly five times that, so the model must be wrong somewhere. Where?

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from omd import tabular

jax.config.update("jax_enable_x64", True)
world = tabular.paper_mdp()


def designed(objective, bound=1.0):
    """The best model within the bound, of four starts."""
    design = tabular.Design(world, objective)
    theta, q = tabular.spread_starts(np.array([1]), np.array([bound]), 4, 2, 2)
    lanes = tabular.Lanes(theta, jnp.asarray(q), jnp.array([bound]), jnp.array([1]))
    end = tabular.find_stationary(design, lanes)
    model = jax.tree.map(lambda x: x[0], end.theta)
    return design.transition(model), model.reward, float(end.expected_return[0])


control = designed(tabular.RETURN)
likelihood = designed(tabular.LIKELIHOOD)
print(
    f"the policy planned in the model earns {control[2]:.3f} (control), {likelihood[2]:.3f} (likelihood)"
)
best = tabular.solve(world, temperature=0.01)
print(f"the best policy earns {tabular.expected_return(world, best.policy):.3f}")

# %% [markdown]
# Now look at both models beside the truth: the probability to go to state 1, and the reward.

# %%
names = ["s0, a0", "s0, a1", "s1, a0", "s1, a1"]
shown = {
    "truth": (world.transition, world.reward),
    "control": control[:2],
    "likelihood": likelihood[:2],
}
figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
for i, (name, (transition, reward)) in enumerate(shown.items()):
    place = np.arange(4) + 0.27 * (i - 1)
    axes[0].bar(place, np.asarray(transition)[..., 1].ravel(), 0.25, label=name)
    axes[1].bar(place, np.asarray(reward).ravel(), 0.25, label=name)
for ax, title in zip(axes, ("probability of state 1 next", "reward"), strict=True):
    ax.set_xticks(range(4), names)
    ax.set_title(title)
_ = axes[0].legend()

# %% [markdown]
# Likelihood spreads its budget over all entries and gets each of them half right. Control spends it where the choice of
# action depends on it, and lets the rest go.
#
# ## How large must a model be?

# %%
bounds = np.array([0.3, 0.6, 1.0, 2.0, 3.0, 5.0])
figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
for name, objective in (("control", tabular.RETURN), ("likelihood", tabular.LIKELIHOOD)):
    ax.plot(bounds, [designed(objective, bound)[2] for bound in bounds], "o-", label=name)
ax.set(xlabel="bound on the norm of the model", ylabel="what its policy earns in the world")
_ = ax.legend()
