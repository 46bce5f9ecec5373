import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import sparse

from omd import tabular
from omd.errors import InputError

P = np.asarray([[[0.7, 0.3], [0.99, 0.01]], [[0.2, 0.8], [0.99, 0.01]]])
R = np.zeros((2, 2))


def bcoo(array):
    array = np.asarray(array)
    return sparse.BCOO((array[array != 0], np.argwhere(array)), shape=array.shape)


def shuffled_with_padding(array):
    """The same BCOO array in another order and with an unused entry, which lies out of bounds."""
    array = np.asarray(array)
    indices = np.argwhere(array)
    order = np.random.default_rng(0).permutation(len(indices))
    data = np.append(array[array != 0][order], 7.0)
    return sparse.BCOO((data, np.append(indices[order], [array.shape], axis=0)), shape=array.shape)


def as_matrix(array):
    return array.reshape(-1, array.shape[-1])


def changed(array, at, value):
    array = np.array(array, float)
    array[at] = value
    return array


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            (changed(P, (1, 0, 1), 0.7), R, 0.9),
            r"row of transition for \(state, action\) = \(1, 0\) sums to 0.89\d* and not to 1",
        ),
        ((changed(P, (0, 1, 1), -0.5), R, 0.9), r"transition\(0, 1, 1\) is -0.5; every prob"),
        ((changed(P, (0, 1, 1), np.nan), R, 0.9), r"transition\(0, 1, 1\) is nan"),
        ((P, changed(R, (1, 1), np.inf), 0.9), r"reward\(1, 1\) is inf; every reward"),
        ((P, R, 1.0), r"discount is 1, but a policy that takes \(state, action\) = \(0, 0\) never"),
        ((P, R, 1.5), r"discount must lie in \[0, 1\), but is 1.5"),
        ((P, R, -0.1), r"but is -0.1"),
        ((P, R, np.nan), r"but is nan"),
        ((P, R, np.ones(3)), r"discount must be one number, but has shape \(3,\)"),
        (
            (P, R.T[:1], 0.9),
            r"reward has shape \(1, 2\) where transition asks for \[S, A\] = \(2, 2",
        ),
        ((P[:, :, :1], R, 0.9), r"shape \[S, A, S'\] with S' = S, but has \(2, 2, 1\)"),
        ((P[0], R, 0.9), r"but has \(2, 2\)"),
        ((P, R, 0.9, [0.5, 0.6]), r"initial sums to 1.1 and not to 1"),
        ((P, R, 0.9, [1.5, -0.5]), r"initial\(1,\) is -0.5"),
        ((P, R, 0.9, [1.0]), r"initial has shape \(1,\) where transition asks for \[S\] = \(2,\)"),
        ((P.astype(complex), R, 0.9), r"transition must be an array of real numbers"),
        ((P.astype(str), R, 0.9), r"its type is <U32"),
        (([[[1.0], [1.0, 0.0]]], R, 0.9), r"transition must be an array, but its rows have diff"),
        (
            (tabular.Successors(np.full((2, 2, 1), 2), np.ones((2, 2, 1))), R, 0.9),
            r"successor index\(0, 0, 0\) is 2, but states are numbered 0 to 1",
        ),
        (
            (tabular.Successors(np.zeros((2, 2, 1)), np.ones((2, 2, 1))), R, 0.9),
            r"successor indices must be integers",
        ),
        (
            (tabular.Successors(np.zeros((2, 2, 2), int), np.ones((2, 2, 1))), R, 0.9),
            r"one shape \[S, A, K\], but have \(2, 2, 2\) and \(2, 2, 1\)",
        ),
        (
            (tabular.Successors(np.zeros((2, 2, 1), int), np.full((2, 2, 1), 0.5)), R, 0.9),
            r"\(state, action\) = \(0, 0\) sums to 0.5",
        ),
        ((bcoo(np.eye(3)), R, 0.9), r"reward has shape \(2, 2\)"),
        ((bcoo(np.ones((3, 2))), R, 0.9), r"no whole number of actions"),
        ((bcoo(np.ones(3)), R, 0.9), r"needs shape \[S\*A, S\] or \[S, A, S\]"),
        ((sparse.BCOO.fromdense(np.eye(2)[:, None], n_batch=1), R, 0.9), r"with 1 batch"),
    ],
)
def test_bad_input_is_one_sentence_at_construction(arguments, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        tabular.MDP(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"mask": [[0.5, 1], [1, 1]]}, r"mask\(0, 0\) is 0.5; give True or False"),
        ({"states": "ab"}, "states must be a list of labels, but is 'ab'"),
        ({"states": ["a", "a"]}, "states needs 2 different labels, but has 2, of which 1 differ"),
    ],
)
def test_bad_masks_and_labels(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        tabular.MDP(P, R, 0.9, **settings)


def test_rounding_of_the_given_precision_is_accepted():
    rows = np.random.default_rng(0).dirichlet(np.ones(50), size=(50, 3))
    tabular.MDP(rows, np.zeros((50, 3)), 0.9)
    tabular.MDP(rows.astype(np.float32), np.zeros((50, 3)), 0.9)
    with pytest.raises(InputError, match="sums to"):
        tabular.MDP(rows * (1 + 1e-7), np.zeros((50, 3)), 0.9)


def test_float64_input_is_checked_before_it_is_rounded():
    with jax.enable_x64(False), pytest.raises(InputError, match="sums to"):
        tabular.MDP(P * (1 + 1e-7), R, 0.9)


def test_start_is_uniform_by_default():
    np.testing.assert_array_equal(tabular.MDP(P, R, 0.9).initial, [0.5, 0.5])


def test_checks_need_concrete_values_and_shapes_are_always_checked():
    bad = jnp.asarray(P) * 2
    assert jax.jit(lambda p: tabular.MDP(p, R, 0.9).transition.sum())(bad) == 8
    with pytest.raises(InputError, match="reward has shape"):
        jax.jit(lambda p: tabular.MDP(p, R[:1], 0.9).transition)(bad)


def test_it_is_a_pytree_that_rebuilds_without_checks():
    mdp = tabular.MDP(P, R, 0.9)
    leaves, structure = jax.tree.flatten(mdp)
    assert len(leaves) == 4
    assert jax.tree.unflatten(structure, [None] * 4).transition is None
    stacked = jax.tree.map(lambda *x: jnp.stack(x), mdp, mdp)
    assert jax.vmap(lambda m: m.reward.sum())(stacked).shape == (2,)
    assert (stacked.num_states, stacked.num_actions) == (2, 2)


@pytest.mark.parametrize(
    "convert",
    [
        bcoo,
        lambda p: bcoo(as_matrix(p)),
        lambda p: sparse.BCSR.from_bcoo(bcoo(as_matrix(p))),
        shuffled_with_padding,
    ],
)
def test_jax_sparse_arrays_stand_for_the_dense_one(convert):
    dense = np.array(tabular.garnet(0, 9, 3, 4).transition)
    dense[2, 1] = np.eye(9)[5]  # a shorter row
    mdp = tabular.MDP(convert(dense), np.zeros((9, 3)), 0.9)
    assert mdp.is_sparse
    assert mdp.transition.index.shape == (9, 3, 4)
    assert mdp.transition.shape == dense.shape
    np.testing.assert_array_equal(mdp.transition.todense(), dense)
    v = np.arange(9.0)
    next_value = jax.jit(tabular.expected_next)(mdp.transition, v)
    np.testing.assert_allclose(next_value, dense @ v)


def test_traced_indices_are_refused():
    matrix = bcoo(P)
    with pytest.raises(InputError, match="indices of a sparse transition are traced"):
        jax.jit(lambda m: tabular.MDP(m, R, 0.9).reward)(matrix)


def test_one_seed_gives_one_garnet_whatever_the_storage():
    dense, lists = tabular.garnet(7, 30, 3, 5), tabular.garnet(7, 30, 3, 5, sparse=True)
    np.testing.assert_array_equal(lists.transition.todense(), dense.transition)
    np.testing.assert_array_equal(lists.reward, dense.reward)
    assert ((dense.transition > 0).sum(-1) == 5).all()
    assert not np.array_equal(tabular.garnet(8, 30, 3, 5).reward, dense.reward)


@pytest.mark.parametrize(("states", "branching"), [(1, 1), (5, 5), (100, 9), (100, 99)])
def test_garnet_draws_distinct_successors_uniformly(states, branching):
    mdp = tabular.garnet(0, states, 20, branching, sparse=True)
    index = np.asarray(mdp.transition.index)
    assert (np.diff(index, axis=-1) > 0).all()
    assert index.min() >= 0
    assert index.max() < states
    # each state is a successor of a share branching / states of all rows, within five sigma
    rows, share = states * 20, branching / states
    share_seen = np.bincount(index.ravel(), minlength=states) / rows
    assert np.abs(share_seen - share).max() <= 5 * np.sqrt(share * (1 - share) / rows) + 1e-12


def test_garnet_refuses_more_successors_than_states():
    with pytest.raises(InputError, match="branching=4; lower branching"):
        tabular.garnet(0, 3, 2, 4)
