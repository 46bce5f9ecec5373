"""VaGraM, (m, b)-VAML, PAML, self-prediction and TaskMet."""

import dataclasses
import types

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import omd
from omd.agents import Prediction, diagnose, networks
from omd.agents.objectives.objective import AgentState
from omd.agents.objectives.paml import Paml
from omd.agents.objectives.self_prediction import SelfPrediction
from omd.agents.objectives.taskmet import TaskMet
from omd.agents.objectives.vagram import Vagram
from omd.agents.objectives.vaml import Vaml, continuing
from omd.config import Config
from omd.reports import tables
from omd.settings import resolve
from omd.types import EnvSpec, Transition

KEY = jax.random.key(9)
SPEC = EnvSpec("probe", 3, num_actions=2)
TRAINED = [
    ("vagram", "sac"),
    ("vaml:samples=3,calibrated=true", "soft-q"),
    ("vaml:steps=2,backups=2", "sac"),
    ("paml", "sac"),
    ("self-prediction:latent=4", "soft-q"),
    ("self-prediction:beside=omd", "sac"),
    ("taskmet", "sac"),
    ("taskmet:over=samples,inverse=identity", "soft-q"),
]
DESCENDED = [
    ("vagram", "soft-q"),
    ("vagram", "sac"),
    ("vaml:steps=2,backups=2", "soft-q"),
    ("vaml:steps=2,backups=2", "sac"),
    ("vaml:samples=3,calibrated=true", "soft-q"),
    ("paml", "soft-q"),
    ("paml", "sac"),
]


def follow(batches, size):
    """The batches as windows: each of `size` starts where the one before ends."""
    found = []
    for i, one in enumerate(batches):
        before = found[-1] if i % size else None
        found.append(one if before is None else one._replace(observation=before.next_observation))
    return found


@pytest.mark.parametrize(("objective", "learner"), TRAINED)
def test_each_trains_the_model_with_both_learners(build, batch, objective, learner):
    model = "gaussian" if "samples=3" in objective else "deterministic"
    agent, state, hyper = build(
        objective=objective, learner=learner, model=model, model_output="state"
    )
    size = agent.objective.window
    count = agent.objective.minibatches * size
    batches = follow([batch(i, 8, learner == "sac") for i in range(count)], size)
    after, info = jax.jit(agent.update)(state, batches, KEY, hyper)
    for before, now in ((state.theta, after.theta), (state.learner.w, after.learner.w)):
        moved = [
            bool(jnp.any(a != b))
            for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(now), strict=True)
        ]
        assert any(moved)
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(after))
    assert float(info["outer_gradient_norm"]) > 0


def moved(tree, direction, length):
    return jax.tree.map(lambda x, d: x + length * d, tree, direction)


@pytest.mark.parametrize(("objective", "learner"), DESCENDED)
def test_gradients_are_the_slopes_of_the_losses(build, batch, objective, learner):
    model = "gaussian" if "samples=3" in objective else "deterministic"
    agent, state, hyper = build(objective=objective, learner=learner, model=model)
    noise = lambda x: x + 0.3 * jax.random.normal(KEY, x.shape)  # noqa: E731
    state = state._replace(learner=state.learner._replace(w=jax.tree.map(noise, state.learner.w)))
    target = jax.tree.map(noise, state.learner.target)
    if learner == "sac" and objective.startswith("vaml"):
        # SAC's value takes the state to its actor as a constant: an actor that doesn't look at it
        actor = jax.tree.map(jnp.zeros_like, target.actor)
        target = target._replace(actor=actor)
    state = state._replace(learner=state.learner._replace(target=target))
    size, context = agent.objective.window, agent.context(KEY, hyper)
    window = follow([batch(i, 8, learner == "sac") for i in range(size)], size)
    loss = jax.jit(lambda theta: agent.objective.fit(theta, window, KEY, state, context)[0])
    theta = jax.tree.map(noise, state.theta)
    gradient = jax.grad(loss)(theta)
    direction = jax.tree.map(lambda x: jax.random.normal(KEY, x.shape), theta)
    slope = optax.tree.vdot(gradient, direction)
    step = 1e-6
    ends = [loss(moved(theta, direction, s)) for s in (step, -step)]
    np.testing.assert_allclose(slope, (ends[0] - ends[1]) / (2 * step), rtol=1e-5)
    assert abs(float(slope)) > 1e-6


def transition(observation, reward, following, terminated=False):
    one = lambda x: jnp.asarray([x], float)  # noqa: E731
    return Transition(
        one(observation), jnp.zeros(1, int), one(reward), one(following), jnp.asarray([terminated])
    )


def stub(**given):
    """A context of which an objective uses no more than is given."""
    model = types.SimpleNamespace(learned_reward=True, stochastic=given.pop("stochastic", False))
    hyper = types.SimpleNamespace(discount=0.5)
    return types.SimpleNamespace(model=model, hyper=hyper, **given)


STATE = AgentState(None, None, None, None)


@pytest.mark.stand_ins
def test_vagram_by_hand():
    one = transition([0.0, 0.0, 0.0], 1.0, [1.0, 1.0, 1.0])
    made = jnp.asarray([[2.0, 3.0, 6.0]])
    prediction = Prediction(made, None, made, jnp.asarray([1.5]))
    # two critics, 3 s₀ − s₁² and s₀: their mean has the gradient (2, −1, 0) at (1, 1, 1)
    values = lambda _, s: jnp.stack([3 * s[:, 0] - s[:, 1] ** 2, s[:, 0]])  # noqa: E731
    loss = Vagram().loss(prediction, one, STATE, stub(action_values=values))
    assert float(loss) == pytest.approx((2 * 1) ** 2 + (-1 * 2) ** 2 + 0.5**2)


@pytest.mark.stand_ins
def test_vaml_by_hand():
    # the model adds θ to a state, and rewards it with the state; V(s) = 10 s; γ = 0.5
    def predict(theta, batch, key):
        made = batch.observation + theta
        return Prediction(made, None, made, batch.observation[:, 0])

    context = stub(predict=predict, value=lambda _, s: 10 * s[:, 0])
    window = [
        transition([0.0], 1.0, [1.0]),
        transition([1.0], 2.0, [3.0]),
        transition([3.0], 4.0, [7.0]),
    ]

    def loss(objective, window):
        return float(objective.fit(2.0, window, KEY, STATE, context)[0])

    # one step to 2, against V(1); the reward is 0, not 1
    assert loss(Vaml(), window[:1]) == pytest.approx((20 - 10) ** 2 + 1)
    # against 2 + 0.5 · V(3)
    assert loss(Vaml(backups=1), window[:2]) == pytest.approx((20 - 17) ** 2 + 1)
    # two steps to 4, against 4 + 0.5 · V(7); rewards 0 and 2, not 1 and 2
    both = Vaml(steps=2, backups=1)
    assert loss(both, window) == pytest.approx((40 - 39) ** 2 + (1 + 0) / 2)
    # the end of an episode in the last transition has no value after it
    last = window[2]._replace(terminated=jnp.asarray([True]))
    assert loss(both, [*window[:2], last]) == pytest.approx((40 - 4) ** 2 + 0.5)
    # and windows that go on after one, or into another episode, don't count
    ended = window[1]._replace(terminated=jnp.asarray([True]))
    other = window[1]._replace(observation=jnp.asarray([[1.5]]))
    for broken in (ended, other):
        assert loss(both, [window[0], broken, window[2]]) == 0
    assert not bool(continuing([window[0], ended, window[2]])[0])


@pytest.mark.stand_ins
def test_only_the_calibrated_loss_prefers_the_right_stochastic_model():
    # s' ~ N(0, 1) and V(s) = s²: mean 1, variance 2. With k samples a model N(0, σ²) costs
    # (σ² − 1)² + 2 σ⁴/k + 2: at k = 2 3.00 for σ = 1, 2.54 for σ = 0.8; calibrated 2.00 and 2.13
    size = 200_000
    draws = jax.random.normal(KEY, (size, 1))
    window = [
        Transition(
            jnp.zeros((size, 1)),
            jnp.zeros(size, int),
            jnp.zeros(size),
            draws,
            jnp.zeros(size, bool),
        )
    ]

    def predict(sigma, batch, key):
        mean = jnp.zeros((size, 1))
        made = sigma * jax.random.normal(key, (size, 1))
        return Prediction(mean, mean, made, batch.reward)

    context = stub(predict=predict, stochastic=True, value=lambda _, s: s[:, 0] ** 2)

    def loss(sigma, *, calibrated):
        objective = Vaml(samples=2, calibrated=calibrated)
        return float(objective.fit(sigma, window, jax.random.key(1), STATE, context)[0])

    uncalibrated = [loss(s, calibrated=False) for s in (1.0, 0.8)]
    corrected = [loss(s, calibrated=True) for s in (1.0, 0.8)]
    np.testing.assert_allclose(uncalibrated, [3.0, 2.539], atol=0.06)
    np.testing.assert_allclose(corrected, [2.0, 2.1296], atol=0.06)
    assert uncalibrated[1] < uncalibrated[0]
    assert corrected[0] < corrected[1]


@pytest.mark.stand_ins
def test_paml_by_hand():
    one = transition([0.0, 0.0], 1.0, [1.0, 2.0])
    made = jnp.asarray([[4.0, 6.0]])
    prediction = Prediction(made, None, made, jnp.asarray([1.0]))
    gradient = lambda _, s: {"actor": jnp.mean(s, axis=0)}  # noqa: E731
    loss = Paml().loss(prediction, one, STATE, stub(policy_gradient=gradient))
    assert float(loss) == pytest.approx(3**2 + 4**2)


def test_the_policy_gradient_of_soft_q_learning_is_zero_at_the_target_s_own_policy(build, batch):
    agent, state, hyper = build(learner="soft-q", critics=1, temperature=0.5)
    context = agent.context(KEY, hyper)
    w = jax.tree.map(lambda x: x + 0.3 * jax.random.normal(KEY, x.shape), state.learner.w)
    observation = batch(0).observation
    best = context.policy_gradient(state.learner._replace(w=w, target=w), observation)
    for leaf in jax.tree.leaves(best):
        np.testing.assert_allclose(leaf, 0, atol=1e-12)
    other = context.policy_gradient(state.learner._replace(target=w), observation)
    assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(other)) > 1e-3


def test_self_prediction_by_hand():
    layer = networks.Layer(2, 2, activation="relu", key=KEY, dtype="float64")
    layer = eqx.tree_at(lambda x: (x.weight, x.bias), layer, (jnp.eye(2), jnp.zeros(2)))
    made = jnp.asarray([[3.0, 4.0]])
    prediction = Prediction(made, None, made, jnp.zeros(1))
    one = transition([0.0, 0.0], 0.0, [7.0, 0.0])
    # (0.6, 0.8) against (1, 0)
    distance = SelfPrediction().distance((layer,), (layer,), prediction, one)
    assert float(distance) == pytest.approx(0.4**2 + 0.8**2)


def test_self_prediction_beside_another_objective_adds_its_gradient(build, batch):
    """One step of the pair, from Adam's first moments: (1 − β₁) times the sum of both gradients."""
    batches = [batch(0), batch(1)]
    moments = {}
    for name in ("mle", "self-prediction:beside=mle"):
        agent, state, hyper = build(objective=name)
        after, _ = jax.jit(agent.update)(state, batches, KEY, hyper)
        moments[name] = optax.tree.get(after.moments, "mu")
        latent = state.constants

    def help(theta):
        prediction = agent.model.predict(theta, batches[0], KEY)
        return agent.objective.distance(latent.encoder, latent.target, prediction, batches[0])

    gradient, _ = jax.flatten_util.ravel_pytree(jax.grad(help)(state.theta))
    both, alone = moments["self-prediction:beside=mle"], moments["mle"]
    np.testing.assert_allclose(both, alone + 0.1 * gradient, rtol=1e-9, atol=1e-14)
    assert float(jnp.abs(gradient).max()) > 0


@pytest.mark.stand_ins
def test_taskmet_s_weights_by_hand():
    # L_fit = w₁ (θ − a)² + w₂ (θ − b)² + a constant: θ* = (e^φ₁ a + e^φ₂ b) / (e^φ₁ + e^φ₂)
    a, b, g = 5.0, 1.0, 2.0
    one = transition([0.0, 0.0], 0.0, [a, b])
    context = fitted_context(lambda theta, batch: theta * jnp.ones((1, 2)))
    objective = TaskMet(damping=0.0, products=20)
    phi = jnp.zeros(3)
    gradient, report = objective.weight_gradient(
        jnp.asarray(g), jnp.asarray(3.0), phi, one, context, KEY
    )
    np.testing.assert_allclose(gradient, [g * (a - b) / 4, -g * (a - b) / 4, 0], atol=1e-9)
    assert float(report.residual) < 1e-6


def fitted_context(mean):
    def predict(theta, batch, key):
        made = mean(theta, batch)
        return Prediction(made, None, made, batch.reward)

    context = stub(predict=predict)
    context.model.state_errors = lambda p, batch: jnp.square(p.mean - batch.next_observation)
    context.model.inputs = lambda batch: batch.observation.T
    return context


@pytest.mark.stand_ins
def test_taskmet_s_sample_weights_are_the_slope_through_the_model_s_fit(batch):
    data = batch(0)
    context = fitted_context(lambda theta, batch: batch.observation @ theta)
    objective = TaskMet(over="samples", damping=0.0, products=100)
    phi = networks.orthogonal_mlp(KEY, 3, 1, 4, jnp.float64)
    phi = jax.tree.map(lambda x: x + 0.3 * jax.random.normal(KEY, x.shape), phi)

    @jax.jit
    def best(phi):
        """θ*(φ): the loss is quadratic in θ, so one Newton step from anywhere finds it."""
        loss = lambda theta: objective.fit_loss(  # noqa: E731
            theta.reshape(3, 3), phi, data, context, KEY
        )[0]
        at = jnp.zeros(9)
        return (at - jnp.linalg.solve(jax.hessian(loss)(at), jax.grad(loss)(at))).reshape(3, 3)

    outer = lambda theta: jnp.sum(jnp.sin(theta))  # noqa: E731
    theta = best(phi)
    gradient, _ = objective.weight_gradient(jax.grad(outer)(theta), theta, phi, data, context, KEY)
    direction = jax.tree.map(lambda x: jax.random.normal(KEY, x.shape), phi)
    slope = optax.tree.vdot(gradient, direction)
    ends = [outer(best(moved(phi, direction, s))) for s in (1e-5, -1e-5)]
    np.testing.assert_allclose(slope, (ends[0] - ends[1]) / 2e-5, rtol=1e-5)


def test_diagnoses_compare_a_loss_with_the_true_bellman_error(build, batch):
    found = {}
    for objective in ("omd", "mle"):
        agent, state, hyper = build(objective=objective)
        noise = lambda x: x + 0.3 * jax.random.normal(KEY, x.shape)  # noqa: E731
        w = jax.tree.map(noise, state.learner.w)
        state = state._replace(learner=state.learner._replace(w=w))
        batches = [batch(i) for i in range(agent.objective.minibatches)]
        run = jax.jit(lambda state, batches, a=agent, h=hyper: diagnose(a, state, batches, KEY, h))
        found[objective] = run(state, batches)
    assert float(found["omd"]["alignment"]) == pytest.approx(1)
    assert -1 < float(found["mle"]["alignment"]) < 1
    one = found["mle"]
    parts = one["value_error_critic"] + one["value_error_model"] + one["value_error_both"]
    assert float(one["value_error"]) == pytest.approx(float(parts))
    # worked out by the learner: eq. (11) at this w
    error = agent.learner.bellman_error(
        state.learner.w, state.learner.target, batches[0], hyper, KEY
    )
    assert float(one["value_error"]) == pytest.approx(float(error))
    # with a model that is true no error is the model's
    exact = stub_model(agent, batches[0])
    assert float(diagnose(exact, state, batches, KEY, hyper)["value_error_model"]) == 0


def stub_model(agent, data):
    """The agent with a model whose prediction of the first minibatch is the minibatch itself."""
    model = agent.model.bound(agent.model.setup)

    def predict(theta, batch, key):
        zero = 0 * optax.tree.sum(theta)
        made = batch.next_observation + zero
        return Prediction(made, None, made, batch.reward + zero)

    object.__setattr__(model, "predict", predict)
    return dataclasses.replace(agent, model=model)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"objective": "paml", "learner": "soft-q:operator=hard"}, "needs the gradient of a pol"),
        ({"objective": "vaml:samples=2"}, "samples of objective 'vaml' is 2, but the model"),
        ({"objective": "vaml:calibrated=true"}, "is calibrated with 1 sample"),
        (
            {"objective": "vaml:steps=1000,backups=1"},
            "takes 1001 transitions in a row, but the replay",
        ),
        ({"objective": "self-prediction:beside=none2"}, "unknown objective 'none2'"),
        ({"objective": "self-prediction:beside=self-prediction"}, "beside of objective 'self-pred"),
        ({"objective": "self-prediction:latent=1"}, "latent of self-prediction is 1"),
        ({"objective": "self-prediction:beside=vep", "model": "gaussian"}, "objective 'vep' comp"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(settings, sentence):
    with pytest.raises(omd.InputError, match=sentence):
        resolve(Config(**settings), SPEC)


def test_the_list_says_what_each_needs_and_where_it_comes_from(capsys, tmp_path):
    tables.listing("objective", None, tmp_path)
    tables.listing("objective", "paml", tmp_path)
    shown = capsys.readouterr().out
    assert "vagram: squared errors weighted by the gradient of the value (needs critics" in shown
    assert "needs: critics, a policy with parameters" in shown
    assert "source: Abachi et al. 2020" in shown
