import jax.numpy as jnp
import numpy as np
import pytest

from omd.tabular.design.projection import Model, ball, reference


def model(seed=0, size=3.0):
    rng = np.random.default_rng(seed)
    return Model(
        jnp.asarray(rng.normal(size=(2, 2, 2)) * size), jnp.asarray(rng.normal(size=(2, 2)) * size)
    )


def norm(theta):
    return float(jnp.sqrt(sum(jnp.sum(x**2) for x in theta)))


def test_ball_is_one_norm_over_logits_and_reward():
    theta = model()
    inside = ball(theta, 2.5)
    assert norm(inside) == pytest.approx(2.5, rel=1e-14)
    for x, y in zip(inside, theta, strict=True):
        np.testing.assert_allclose(x, y * 2.5 / norm(theta), rtol=1e-14)


@pytest.mark.parametrize("bound", [20.0, 1e9, np.inf])
def test_ball_leaves_the_inside_alone(bound):
    for x, y in zip(ball(model(), bound), model(), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("size", [0.0, 3.0])
def test_ball_of_radius_zero(size):
    for leaf in ball(model(size=size), 0.0):
        np.testing.assert_allclose(leaf, 0, atol=1e-150)


def test_reference_by_hand():
    """3 and 4 make 5: action 0 and state 0 are divided by the temperature, the rest is not."""
    logits = jnp.zeros((2, 2, 2)).at[1, 0, 0].set(0.03).at[0, 1, 1].set(4.0)
    reward = jnp.asarray([[0.0, 0.06], [8.0, 0.0]])
    theta = Model(logits, reward)

    out = reference(theta, 2.5)  # logits have norm 5, the reward 10
    np.testing.assert_allclose(out.logits, logits / 2, rtol=1e-14)
    np.testing.assert_allclose(out.reward, reward / 4, rtol=1e-14)

    out = reference(theta, 5.0)  # each by itself: the logits touch the bound, the reward is cut
    np.testing.assert_array_equal(out.logits, logits)
    np.testing.assert_allclose(out.reward, reward / 2, rtol=1e-14)


def test_reference_takes_the_temperature():
    theta = Model(jnp.zeros((2, 2, 2)), jnp.asarray([[3.0, 0.0], [0.0, 4.0]]))
    np.testing.assert_allclose(
        reference(theta, 2.5, temperature=1.0).reward, theta.reward / 2, rtol=1e-14
    )


def test_reference_crushes_the_reward():
    """At κ = 6 the reward of state 0 can't exceed 0.06."""
    out = reference(Model(jnp.zeros((2, 2, 2)), jnp.full((2, 2), 0.5)), 6.0)
    assert float(jnp.linalg.norm(out.reward[0])) < 0.06


def test_reference_of_bound_zero():
    for leaf in reference(model(), 0.0):
        np.testing.assert_array_equal(leaf, 0)
    for leaf in reference(model(size=0.0), 0.0):
        np.testing.assert_array_equal(leaf, 0)
