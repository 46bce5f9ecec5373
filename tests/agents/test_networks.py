import typing

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from omd.agents import networks
from omd.config import Activation


def test_relu_has_the_derivative_of_a_rectifier():
    x = jnp.array([-2.0, -1e-300, 0.0, 1e-300, 3.0])
    np.testing.assert_array_equal(networks.relu(x), [0, 0, 0, 1e-300, 3])
    np.testing.assert_array_equal(jax.vmap(jax.grad(networks.relu))(x), [0, 0, 0, 1, 1])


@pytest.mark.parametrize(("inputs", "outputs", "width"), [(3, 2, 8), (9, 4, 1), (8, 1, 8)])
def test_weights_are_orthogonal_with_the_gains_of_the_paper_s_program(inputs, outputs, width):
    mlp = networks.orthogonal_mlp(jax.random.key(0), inputs, outputs, width, jnp.float64)
    for layer, gain in zip(mlp, [2**0.5, 2**0.5, 0.01], strict=True):
        weight = layer.weight if layer.weight.shape[0] <= layer.weight.shape[1] else layer.weight.T
        np.testing.assert_allclose(weight @ weight.T, gain**2 * np.eye(len(weight)), atol=1e-12)
        np.testing.assert_array_equal(layer.bias, 0)


def test_padding_changes_neither_the_function_nor_its_training():
    narrow = networks.orthogonal_mlp(jax.random.key(0), 3, 2, 4, jnp.float64)
    padded = networks.orthogonal_mlp(jax.random.key(0), 3, 2, 4, jnp.float64, padded=7)
    x = jax.random.normal(jax.random.key(1), (3, 11))
    adam = optax.adam(0.1)

    def train(mlp):
        state = adam.init(mlp)
        for _ in range(5):
            gradient = jax.grad(lambda m: jnp.sum(jnp.sin(networks.apply(m, x))))(mlp)
            updates, state = adam.update(gradient, state)
            mlp = optax.apply_updates(mlp, updates)
        return mlp

    narrow, padded = train(narrow), train(padded)
    np.testing.assert_allclose(networks.apply(padded, x), networks.apply(narrow, x), rtol=1e-12)
    np.testing.assert_array_equal(padded[1].weight[4:], 0)
    np.testing.assert_array_equal(padded[1].weight[:, 4:], 0)
    np.testing.assert_array_equal(padded[0].bias[4:], 0)
    assert np.all(np.asarray(padded[1].weight[:4, :4]) != 0)


def test_layers_have_widths_of_their_own_and_pad_to_others():
    key, x = jax.random.key(0), jax.random.normal(jax.random.key(1), (3, 11))
    plain = networks.orthogonal_mlp(key, 3, 2, (4, 2, 5), jnp.float64, activation="tanh")
    assert [layer.weight.shape for layer in plain] == [(4, 3), (2, 4), (5, 2), (2, 5)]
    padded = networks.orthogonal_mlp(
        key, 3, 2, (4, 2, 5), jnp.float64, (6, 3, 5), activation="tanh"
    )
    by_hand = x
    for layer in plain[:-1]:
        by_hand = np.tanh(layer.weight @ by_hand + layer.bias[:, None])
    by_hand = plain[-1].weight @ by_hand + plain[-1].bias[:, None]
    for mlp in (plain, padded):
        np.testing.assert_allclose(networks.apply(mlp, x), by_hand, rtol=1e-12)
    gradient = jax.grad(lambda m: jnp.sum(jnp.sin(networks.apply(m, x))))(padded)
    np.testing.assert_array_equal(gradient[1].weight[2:], 0)
    np.testing.assert_array_equal(gradient[1].weight[:, 4:], 0)
    np.testing.assert_array_equal(gradient[2].weight[:, 2:], 0)


@pytest.mark.parametrize("activation", typing.get_args(Activation))
def test_the_tangent_kernel_is_that_of_the_jacobian(activation):
    mlp = networks.orthogonal_mlp(
        jax.random.key(0), 3, 2, (4, 3), jnp.float64, (4, 5), activation=activation
    )
    x = jax.random.normal(jax.random.key(1), (3, 6))
    outputs = jax.random.normal(jax.random.key(2), (2, 6))
    arrays, static = eqx.partition(mlp, eqx.is_array)
    flat, back = jax.flatten_util.ravel_pytree(arrays)

    def chosen(flat):
        return jnp.sum(outputs * networks.apply(eqx.combine(back(flat), static), x), axis=0)

    jacobian = jax.jacrev(chosen)(flat)
    kernel = networks.tangent_kernel(mlp, x, outputs)
    np.testing.assert_allclose(kernel, jacobian @ jacobian.T, rtol=1e-10, atol=1e-14)
    assert mlp[0].activate(jnp.zeros(1)) == 0, "a padded unit gives 0"
