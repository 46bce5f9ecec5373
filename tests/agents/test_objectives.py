import dataclasses
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omd import implicit
from omd.agents import Context, networks

KEY = jax.random.key(9)
WITH_OTHER_INVERSES = [
    {"hypergradient": "dense:damping=0.1"},
    {"hypergradient": "nystrom:rank=5,damping=0.1"},
    {"learner": "sac", "hypergradient": "normal-cg:damping=0.1,max_steps=200"},
    {"learner": "sac", "hypergradient": "pseudo-inverse:rcond=1e-3"},
]
"""Each compiles for as long as five others."""


def general_gradient(agent, state, after, hyper, inner, outer, target, method):
    """Eq. (7) by general double differentiation, knowing nothing of the closed form."""
    learner, last = agent.learner, agent.objective.inner_keys(KEY)[-1]

    def constraint(w, theta):
        prediction = agent.model.predict(theta, inner, KEY)
        made = agent.model.transition(prediction, inner)
        return jax.grad(learner.bellman_error)(w, target, made, hyper, last)

    def outer_loss(w, theta):
        return learner.bellman_error(w, target, outer, hyper, last)

    return implicit.hypergradient(outer_loss, constraint, after.w, state.theta, method=method)


def inner_batches(agent, batches):
    """The minibatch of each inner step."""
    steps = agent.objective.settings.inner_steps
    return batches[:steps] if agent.objective.inner_batch == "fresh" else [batches[0]] * steps


def inner_loop(agent, state, batches, hyper):
    """All inner steps by hand: the learner after them, and what the last one's targets were
    computed from."""
    objective, learner = agent.objective, agent.learner
    learner_state = state.learner
    if objective.start == "cold":
        learner_state = learner.restart(learner_state, jax.random.fold_in(KEY, 1), hyper)
    learner_state = agent.context(KEY, hyper).begin_inner_loop(learner_state)
    for key, batch in zip(objective.inner_keys(KEY), inner_batches(agent, batches), strict=True):
        made = agent.model.predict(state.theta, batch, KEY)
        before = learner_state.target
        y = learner.targets(before, made.reward, made.sample, batch, hyper, key)
        learner_state, _ = learner.step(learner_state, y, batch, hyper, key)
    return learner_state, before


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"critics": 1, "learner": "soft-q:operator=hard"},
        {"inner_steps": 3, "inner_optimizer": "reset"},
        {"objective": "omd:outer_batch=fresh", "reward": "learned"},
        {"objective": "omd:inner_batch=fresh", "inner_steps": 3, "model_output": "state"},
        {"objective": "omd:inner_batch=fresh,outer_batch=fresh", "inner_steps": 2},
        {"objective": "omd:constraint_target=moved"},
        {"objective": "omd:start=cold", "model": "gaussian"},
        {"hypergradient": "neumann:terms=4,step=0.5"},
        {"hypergradient": "cg:damping=1.0,max_steps=50"},
        {"learner": "sac"},
        {"learner": "sac", "critics": 1, "objective": "omd:constraint_target=moved"},
        {"learner": "sac", "inner_steps": 3, "objective": "omd:outer_batch=fresh"},
        {"learner": "sac", "model_output": "state", "objective": "omd:start=cold"},
        {"learner": "sac", "model": "gaussian", "model_network": "separate"},
        {"learner": "sac", "reward": "known", "inner_optimizer": "reset"},
        {"learner": "sac", "hypergradient": "gmres:damping=0.5,rtol=1e-13"},
        *(WITH_OTHER_INVERSES if os.environ.get("OMD_LONG") else []),
    ],
    ids=str,
)
def test_the_closed_form_is_general_double_differentiation(build, batch, settings):
    agent, state, hyper = build(**settings)
    sac = settings.get("learner") == "sac"
    batches = [batch(i, continuous=sac) for i in range(agent.objective.minibatches)]

    class Spy(Context):
        def descend(self, state, gradient):
            self.__dict__["taken"] = gradient
            return super().descend(state, gradient)

    @jax.jit
    def both_ways(state, batches):
        context = agent.context(KEY, hyper)
        spy = Spy(*(getattr(context, field.name) for field in dataclasses.fields(context)))
        after, info = agent.objective.update(state, batches, spy)
        by_hand, target = inner_loop(agent, state, batches, hyper)
        if agent.objective.constraint_target == "moved":
            target = after.learner.target
        inner, outer = inner_batches(agent, batches)[-1], batches[-1]
        expected, _ = general_gradient(
            agent, state, after.learner, hyper, inner, outer, target, agent.method
        )
        return (after.learner, spy.taken), (by_hand, expected), info

    (learner, gradient), (by_hand, expected), info = both_ways(state, batches)
    for mine, theirs in zip(*map(jax.tree.leaves, (learner, by_hand)), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)
    for mine, theirs in zip(*map(jax.tree.leaves, (gradient, expected)), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-10 * info["outer_loss"])
    assert float(info["outer_gradient_norm"]) > 0


def jacobian_of(learner, w, batch):
    """∂Q_w(s, a)/∂w [critics · batch, parameters], and w as a vector's function."""
    flat, unravel = jax.flatten_util.ravel_pytree(w)
    jacobian = jax.jacobian(lambda v: learner.predictions(unravel(v), batch))(flat)
    return jacobian.reshape(-1, flat.size)


@pytest.mark.parametrize("kind", ["soft-q", "sac"])
def test_tangent_kernels_are_products_of_the_jacobian(build, batch, kind):
    agent, state, _ = build(learner=kind)
    data = batch(0, continuous=kind == "sac")
    w = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(KEY, x.shape), state.learner.w)
    jacobian = jacobian_of(agent.learner, w, data)
    kernels = agent.learner.tangent_kernels(w, data)
    expected = (jacobian @ jacobian.T).reshape(2, 16, 2, 16)
    for i in range(2):
        np.testing.assert_allclose(kernels[i], expected[i, :, i], rtol=1e-11, atol=1e-13)
    np.testing.assert_array_equal(expected[0, :, 1], 0)


@pytest.mark.parametrize("outer", ["same", "fresh"])
@pytest.mark.parametrize("kind", ["soft-q", "sac"])
def test_gauss_newton_is_the_dense_formula(build, batch, kind, outer):
    agent, state, hyper = build(
        learner=kind,
        objective=f"omd:outer_batch={outer}",
        hypergradient="gauss-newton:damping=1e-2",
    )
    batches = [batch(i, continuous=kind == "sac") for i in range(agent.objective.minibatches)]
    inner, last = batches[0], agent.objective.inner_keys(KEY)[-1]
    after, info = jax.jit(agent.update)(state, batches, KEY, hyper)
    objective, learner, w = agent.objective, agent.learner, after.learner.w
    context = agent.context(KEY, hyper)
    _, target = jax.jit(lambda state: inner_loop(agent, state, batches, hyper))(state)
    _, g = objective.outer_gradient(w, target, batches[-1], context, last)
    jacobian = jacobian_of(learner, w, inner)
    hessian = 2 / 32 * jacobian.T @ jacobian
    flat, _ = jax.flatten_util.ravel_pytree(g)
    expected = np.linalg.solve(hessian + 1e-2 * np.eye(flat.size), flat)
    u, _ = agent.method.solve(objective.jacobian(w, jnp.zeros(16), inner, context), g)
    mine, _ = jax.flatten_util.ravel_pytree(u)
    np.testing.assert_allclose(mine, expected, rtol=1e-8, atol=1e-12)
    weights, _ = objective.target_weights(w, jnp.zeros(16), g, inner, context)
    changes = (jacobian @ expected).reshape(2, 16)
    np.testing.assert_allclose(weights, 2 / 32 * changes.sum(axis=0), rtol=1e-8, atol=1e-12)
    assert np.isfinite(float(info["outer_gradient_norm"]))


def test_undamped_gauss_newton_gives_targets_the_true_bellman_residual(build, batch):
    """Where critics have more parameters than the minibatch has residuals: J (JᵀJ)⁺ Jᵀ = 1."""
    agent, state, hyper = build(hidden=40, hypergradient="gauss-newton:damping=1e-5")
    data, key, objective = batch(0), KEY, agent.objective
    context = agent.context(KEY, hyper)
    keys = iter(jax.random.split(jax.random.key(8), 40))
    w = jax.tree.map(lambda x: x + 0.5 * jax.random.normal(next(keys), x.shape), state.learner.w)
    _, g = objective.outer_gradient(w, state.learner.target, data, context, key)
    y = agent.learner.targets(
        state.learner.target, data.reward, data.next_observation, data, hyper, key
    )
    weights, _ = objective.target_weights(w, y, g, data, context)
    residual = agent.learner.predictions(w, data) - y
    kernels = 2 / 32 * agent.learner.tangent_kernels(w, data)
    damped = kernels + 1e-5 * jnp.eye(16)
    left = jnp.einsum("cij,cj->ci", kernels, jnp.linalg.solve(damped, residual[..., None])[..., 0])
    np.testing.assert_allclose(weights, 2 / 32 * left.sum(axis=0), rtol=1e-6)
    limit = 2 / 32 * jnp.sum(residual, axis=0)
    assert jnp.linalg.norm(weights - limit) < 1e-2 * jnp.linalg.norm(limit)


@pytest.mark.parametrize("kind", ["soft-q", "sac"])
def test_the_hypergradient_is_the_slope_of_the_true_bellman_error(build, batch, kind):
    """Finite differences through the inner minimum itself: w trained to convergence.

    From most starts that minimum lies on a kink of a rectifier, where the theorem says nothing;
    from these it doesn't, as the assertion on the constraint tells.
    """
    agent, state, hyper = build(
        learner=kind,
        critics=1,
        hidden=3,
        model_hidden=3,
        temperature=0.5,
        reward="learned",
        model_output="state",
    )
    learner, data = agent.learner, batch(0, size=20, continuous=kind == "sac")
    keys = iter(jax.random.split(jax.random.key(5), 3))

    def scattered(tree):
        """Away from the zero biases of the start, where rectifiers have kinks."""
        flat, unravel = jax.flatten_util.ravel_pytree(tree)
        return 0.7 * jax.random.normal(next(keys), flat.shape), unravel

    (w0, to_w), (theta, to_theta) = scattered(state.learner.w), scattered(state.theta)
    target = to_w(scattered(state.learner.w)[0])
    if kind == "sac":
        # blind to s': the gradient that appendix F cuts, through the actor's input, is zero
        actor = jax.tree.map(lambda x: x * 0.0, state.learner.target.actor)
        target = state.learner.target._replace(critics=target, actor=actor)

    def inner_loss(w, theta):
        prediction = agent.model.predict(to_theta(theta), data, KEY)
        made = agent.model.transition(prediction, data)
        return learner.bellman_error(to_w(w), target, made, hyper, KEY) + 0.01 * jnp.sum(w**2)

    constraint = jax.grad(inner_loss)

    @jax.jit
    def solver(theta, w):
        def newton(_, w):
            damped = jax.jacfwd(constraint)(w, theta) + 0.5 * jnp.eye(w.size)
            return w - jnp.linalg.solve(damped, constraint(w, theta))

        return jax.lax.fori_loop(0, 1500, newton, w)

    def outer(w, theta):
        return learner.bellman_error(to_w(w), target, data, hyper, KEY)

    w = solver(theta, w0)
    assert jnp.max(jnp.abs(constraint(w, theta))) < 1e-12
    gradient, report = implicit.hypergradient(outer, constraint, w, theta, method=implicit.Dense())
    assert int(report.status) == implicit.Status.CONVERGED
    direction, step = jax.random.normal(KEY, theta.shape), 1e-4

    def moved(scale):
        return outer(solver(theta + scale * step * direction, w), theta)

    slope = (moved(-2) - 8 * moved(-1) + 8 * moved(1) - moved(2)) / (12 * step)
    assert abs(slope) > 1e-3
    np.testing.assert_allclose(gradient @ direction, slope, rtol=1e-6)


def test_mle_descends_the_error_of_the_paper_s_program(build, batch):
    agent, state, hyper = build(objective="mle")
    data = batch(0)
    loss, prediction = agent.objective.fit(
        state.theta, [data], KEY, state, agent.context(KEY, hyper)
    )
    by_hand = np.mean(
        np.sum((np.asarray(prediction.mean) - data.next_observation) ** 2, axis=1)
        + (np.asarray(prediction.reward) - data.reward) ** 2
    )
    np.testing.assert_allclose(loss, by_hand, rtol=1e-12)
    gaussian, state, _ = build(objective="mle", model="gaussian", reward="known")
    loss, prediction = gaussian.objective.fit(
        state.theta, [data], KEY, state, gaussian.context(KEY, hyper)
    )
    std = np.exp(np.asarray(prediction.log_std))
    error = (np.asarray(data.next_observation) - np.asarray(prediction.mean)) / std
    density = -0.5 * error**2 - np.log(std) - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(loss, -np.mean(density.sum(axis=1)), rtol=1e-12)


def test_vep_compares_random_values_of_true_and_predicted_states(build, batch):
    agent, state, hyper = build(objective="vep:values=3")
    data = batch(0)
    prediction = agent.model.predict(state.theta, data, KEY)
    total = np.mean((np.asarray(prediction.reward) - data.reward) ** 2)
    assert len(state.constants) == 3
    for value in state.constants:
        true = np.asarray(networks.apply(value, data.next_observation.T))
        made = np.asarray(networks.apply(value, prediction.mean.T))
        total += np.mean((true - made) ** 2)
    loss = agent.objective.loss(prediction, data, state, agent.context(KEY, hyper))
    np.testing.assert_allclose(loss, total, rtol=1e-12)


@pytest.mark.parametrize("reward", ["learned", "known"])
def test_vep_has_equation_14_by_name(build, batch, reward):
    agent, state, hyper = build(objective="vep:values=3,form=equation", reward=reward, discount=0.9)
    data = batch(0)
    prediction = agent.model.predict(state.theta, data, KEY)
    error = np.asarray(data.reward) - np.asarray(prediction.reward)
    assert (np.abs(error).max() > 0) == (reward == "learned")
    total = 0.0
    for value in state.constants:  # a sum over V of both errors together, as in the paper
        true = np.asarray(networks.apply(value, data.next_observation.T)).reshape(-1)
        made = np.asarray(networks.apply(value, prediction.mean.T)).reshape(-1)
        total += np.mean((error + 0.9 * (true - made)) ** 2)
    loss = agent.objective.loss(prediction, data, state, agent.context(KEY, hyper))
    np.testing.assert_allclose(loss, total, rtol=1e-12)


@pytest.mark.parametrize("learner", ["soft-q", "sac"])
@pytest.mark.parametrize("objective", ["mle", "vep"])
def test_fitted_objectives_take_a_minibatch_for_each_step(build, batch, objective, learner):
    agent, state, hyper = build(objective=objective, model_steps=2, inner_steps=3, learner=learner)
    assert agent.objective.minibatches == 5
    batches = [batch(i, continuous=learner == "sac") for i in range(5)]
    after, info = jax.jit(agent.update)(state, batches, KEY, hyper)
    learner = state.learner
    for data, key in zip(batches[2:], agent.objective.inner_keys(KEY), strict=True):
        made = agent.model.predict(after.theta, data, KEY)
        y = agent.learner.targets(learner.target, made.reward, made.sample, data, hyper, key)
        learner, _ = agent.learner.step(learner, y, data, hyper, key)
    for mine, theirs in zip(*map(jax.tree.leaves, (after.learner, learner)), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)
    assert np.isnan(float(info["solve_residual"]))


def test_model_passes_known_rewards_on_and_bounds_the_spread(build, batch):
    agent, state, _ = build(model="gaussian", reward="known")
    data = batch(0)
    prediction = agent.model.predict(state.theta, data, KEY)
    np.testing.assert_array_equal(prediction.reward, data.reward)
    assert np.all(np.asarray(prediction.log_std) >= -5)
    noise = jax.random.normal(KEY, data.next_observation.shape)
    expected = prediction.mean + noise * jnp.exp(prediction.log_std)
    np.testing.assert_allclose(prediction.sample, expected, rtol=1e-12)


@pytest.mark.parametrize("network", ["separate", "joint"])
@pytest.mark.parametrize("kind", ["deterministic", "gaussian"])
def test_a_model_of_the_change_adds_it_to_the_state(build, batch, kind, network):
    data, made = batch(0), {}
    for output in ("state", "change"):
        agent, state, _ = build(
            model=kind, model_network=network, model_output=output, reward="learned"
        )
        made[output] = agent.model.predict(state.theta, data, KEY)
    np.testing.assert_allclose(
        made["change"].mean - data.observation, made["state"].mean, rtol=1e-12, atol=1e-12
    )
    spread = made["state"].sample - made["state"].mean
    np.testing.assert_allclose(
        made["change"].sample - made["change"].mean, spread, rtol=1e-9, atol=1e-12
    )
    np.testing.assert_array_equal(made["change"].reward, made["state"].reward)


@pytest.mark.parametrize("learner", ["soft-q", "sac"])
def test_without_an_objective_targets_are_the_true_ones(build, batch, learner):
    agent, state, hyper = build(objective="none", inner_steps=2, learner=learner)
    assert not jax.tree.leaves((state.theta, state.moments))
    batches = [batch(i, continuous=learner == "sac") for i in range(agent.objective.minibatches)]
    assert len(batches) == 2
    after, info = jax.jit(agent.update)(state, batches, KEY, hyper)
    expected = state.learner
    for data, key in zip(batches, agent.objective.inner_keys(KEY), strict=True):
        y = agent.learner.targets(
            expected.target, data.reward, data.next_observation, data, hyper, key
        )
        expected, _ = agent.learner.step(expected, y, data, hyper, key)
    for mine, theirs in zip(*map(jax.tree.leaves, (after.learner, expected)), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)
    assert "model_mse" not in info


def test_one_network_gives_both_predictions_at_any_width(build, batch):
    data = batch(0, continuous=True)
    for padded in (5, 8):
        agent, *_ = build(learner="sac", objective="mle", model_output="state")
        model = agent.model.bound(agent.model.setup._replace(padded=padded))
        theta = model.init(KEY)
        assert set(theta) == {"joint"}
        assert theta["joint"][0].weight.shape[0] == padded
        made = model.predict(theta, data, KEY)
        # actions enter scaled to [-1, 1]
        unit = (data.action - jnp.array([0.0, 1.0])) / jnp.array([1.0, 4.0])
        both = networks.apply(theta["joint"], jnp.concatenate([data.observation, unit], axis=1).T)
        np.testing.assert_allclose(made.mean, both[:3].T, rtol=1e-12)
        np.testing.assert_allclose(made.reward, both[3], rtol=1e-12)
