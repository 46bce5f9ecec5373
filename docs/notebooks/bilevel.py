# %% [markdown]
# # A bi-level problem of one's own
#
# Some labels of a training set are wrong, and nobody knows which. We give each example a weight and learn the weights: the
# *inner* problem fits a classifier to the weighted examples, the *outer* problem asks how well it does on a few clean
# ones. The gradient of the outer loss in the weights goes through the inner minimum, by the implicit function theorem.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax

from omd import implicit

keys = jax.random.split(jax.random.key(0), 3)
points = jax.random.normal(keys[0], (140, 2))
truth = (points @ jnp.array([2.0, 1.0]) > 0).astype(float)
wrong = (jax.random.uniform(keys[1], (140,)) < 0.35) & (jnp.arange(140) < 100) & (points[:, 0] > 0)
labels = jnp.where(wrong, 1 - truth, truth)
train, clean = (points[:100], labels[:100]), (points[100:], truth[100:])


def cross_entropy(w, x, y, weight=1.0):
    logit = x @ w[:2] + w[2]
    return jnp.mean(weight * optax.sigmoid_binary_cross_entropy(logit, y))


# %% [markdown]
# The constraint is the gradient of the inner loss. The solver is a few steps of Newton's method; any other would do.


# %%
def inner(w, theta, x, y):
    return cross_entropy(w, x, y, jax.nn.sigmoid(theta)) + 0.005 * jnp.sum(w**2)


constraint = jax.grad(inner)


def solver(w0, theta, x, y):
    def newton(_, w):
        hessian = jax.jacfwd(constraint)(w, theta, x, y)
        return w - jnp.linalg.solve(hessian, constraint(w, theta, x, y))

    return jax.lax.fori_loop(0, 8, newton, w0)


def outer(theta):
    w = implicit.root(
        constraint, solver, jnp.zeros(3), theta, *train, hypergradient=implicit.Dense()
    )
    return cross_entropy(w, *clean)


# %%
theta, losses = jnp.zeros(100), []
optimizer = optax.adam(0.1)
state = optimizer.init(theta)
step = jax.jit(jax.value_and_grad(outer))
for _ in range(100):
    loss, slope = step(theta)
    updates, state = optimizer.update(slope, state)
    theta, losses = optax.apply_updates(theta, updates), [*losses, float(loss)]
weight = jax.nn.sigmoid(theta)
print(f"loss on clean examples: {losses[0]:.3f} before, {losses[-1]:.3f} after")
print(
    f"mean weight of right labels {weight[~wrong[:100]].mean():.2f}, of wrong ones {weight[wrong[:100]].mean():.2f}"
)

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
left.plot(losses)
left.set(xlabel="outer step", ylabel="loss on clean examples")
image = right.scatter(*train[0].T, c=weight, cmap="viridis", s=20)
right.scatter(
    *train[0][wrong[:100]].T, facecolors="none", edgecolors="red", s=60, label="wrong label"
)
figure.colorbar(image, label="learned weight")
_ = right.legend()

# %% [markdown]
# ## Is the gradient right?
#
# `gradcheck` compares with finite differences. It wants 64 bits and few numbers in θ; here the first five weights.

# %%
with jax.enable_x64(True):
    few = (jnp.asarray(points[:5], float), jnp.asarray(labels[:5], float))
    check = implicit.gradcheck(
        lambda w, theta, x, y: cross_entropy(w, x, y),
        constraint,
        solver,
        jnp.zeros(3),
        jnp.zeros(5),
        *few,
        methods={"dense": implicit.Dense(), "identity": implicit.Identity()},
    )
print(check)
