import gymnasium
import numpy as np
import pytest
import scipy.sparse

from omd import tabular
from omd.errors import InputError


def test_paper_mdp_is_that_of_figure_3():
    mdp = tabular.paper_mdp()
    np.testing.assert_allclose(mdp.transition[0, 0], [0.7, 0.3])
    np.testing.assert_allclose(mdp.transition[1, 0], [0.2, 0.8])
    np.testing.assert_allclose(mdp.reward, [[-0.45, -0.1], [0.5, 0.5]])
    assert float(mdp.discount) == 0.9
    np.testing.assert_allclose(mdp.initial, [0.5, 0.5])


@pytest.mark.parametrize("sparse", [False, True])
def test_grid_world_values_are_powers_of_the_discount(sparse):
    """Without slip, n steps from the goal the value is γ^(n − 1), around the wall."""
    mdp = tabular.grid_world(2, 3, walls=[(0, 1)], goals=[(0, 2)], discount=0.9, sparse=sparse)
    v = tabular.solve(mdp, operator="hard").v
    steps = {(0, 0): 4, (1, 0): 3, (1, 1): 2, (1, 2): 1}
    for (row, column), n in steps.items():
        assert float(v[3 * row + column]) == pytest.approx(0.9 ** (n - 1), rel=1e-9)
    assert abs(float(v[2])) <= 1e-9
    np.testing.assert_allclose(mdp.initial, [0.25, 0, 0, 0.25, 0.25, 0.25])


def test_grid_world_slips_to_the_sides():
    mdp = tabular.grid_world(3, 3, slip=0.2, step_reward=-1.0, goal_reward=5.0)
    up, right, down, left = mdp.transition[4]  # the middle
    np.testing.assert_allclose(up, [0, 0.8, 0, 0.1, 0, 0.1, 0, 0, 0], atol=1e-15)
    np.testing.assert_allclose(right, [0, 0.1, 0, 0, 0, 0.8, 0, 0.1, 0], atol=1e-15)
    np.testing.assert_allclose(down, [0, 0, 0, 0.1, 0, 0.1, 0, 0.8, 0], atol=1e-15)
    np.testing.assert_allclose(left, [0, 0.1, 0, 0.8, 0, 0, 0, 0.1, 0], atol=1e-15)
    # from the cell above the goal (8), down: goal with 0.8
    assert float(mdp.reward[5, 2]) == pytest.approx(0.8 * 5 - 0.2)
    assert (np.asarray(mdp.reward[8]) == 0).all()
    assert (np.asarray(mdp.transition[8, :, 8]) == 1).all()


def test_grid_world_refuses_what_lies_outside():
    with pytest.raises(InputError, match=r"goals has the cell \(3, 0\) outside the grid of 3 x 3"):
        tabular.grid_world(3, 3, goals=[(3, 0)])
    with pytest.raises(InputError, match="slip must lie in"):
        tabular.grid_world(3, 3, slip=1.5)
    with pytest.raises(InputError, match="no cell left to start from"):
        tabular.grid_world(1, 1)


def values_of_the_table(table, discount, sweeps):
    """Value iteration on Gymnasium's own table: no bootstrapping where an episode ends."""
    v = np.zeros(len(table))
    for _ in range(sweeps):
        v = np.asarray(
            [
                max(
                    sum(p * (r + discount * (not end) * v[t]) for p, t, r, end in outcomes)
                    for outcomes in actions.values()
                )
                for _, actions in sorted(table.items())
            ]
        )
    return v


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("FrozenLake", {"map_name": "4x4", "is_slippery": True}),
        ("FrozenLake", {"map_name": "8x8", "is_slippery": False}),
        ("CliffWalking", {}),
        ("Taxi", {}),
    ],
)
def test_gymnasium_tables_have_the_values_of_value_iteration_by_hand(name, settings):
    id = next(i for i in reversed(sorted(gymnasium.registry)) if i.startswith(f"{name}-v"))
    environment = gymnasium.make(id, **settings)
    mdp = tabular.from_gymnasium(id, discount=0.8, sparse=True, **settings)
    table = environment.unwrapped.P
    assert mdp.num_states == len(table) + 1
    solution = tabular.solve(mdp, operator="hard", method="modified_policy_iteration")
    assert solution.status == tabular.Status.CONVERGED
    np.testing.assert_allclose(solution.v[:-1], values_of_the_table(table, 0.8, 120), atol=1e-8)
    assert abs(float(solution.v[-1])) <= 1e-9
    np.testing.assert_allclose(mdp.initial[:-1], environment.unwrapped.initial_state_distrib)


def test_an_environment_without_a_table_is_refused():
    with pytest.raises(InputError, match="CartPole-v1 carries no transition table"):
        tabular.from_gymnasium("CartPole-v1")


def test_scipy_matrices_are_the_dense_array():
    mdp = tabular.garnet(0, 6, 3, 2)
    table = np.asarray(mdp.transition)
    matrix = scipy.sparse.csr_matrix(table.reshape(18, 6))
    found = tabular.from_csr(matrix, mdp.reward, 0.9, mask=np.ones((6, 3), bool))
    np.testing.assert_allclose(found.transition.todense(), table, rtol=1e-15)
    with pytest.raises(InputError, match="needs a SciPy sparse matrix, but got ndarray"):
        tabular.from_csr(table, mdp.reward, 0.9)
    with pytest.raises(InputError, match="no whole number of actions"):
        tabular.from_csr(matrix[:17], mdp.reward, 0.9)


def test_a_world_described_by_functions():
    """Wait or leave at home; out leads back. By hand at γ = 1/2: v(home) = 1 + v(out)/2,
    v(out) = v(home)/2."""
    mdp = tabular.from_callables(
        ["home", "out"],
        lambda s: ["wait", "leave"] if s == "home" else ["return"],
        lambda s, a: {"out": 1.0} if a == "leave" else {"home": 1.0},
        lambda s, a, t: float(t == "out"),
        discount=0.5,
        initial={"home": 1.0},
    )
    solution = tabular.solve(mdp, operator="hard")
    np.testing.assert_allclose(solution.v, [4 / 3, 2 / 3])
    assert np.isneginf(solution.q[mdp.state_index("home"), mdp.action_index("return")])
    with pytest.raises(InputError, match="no label 'garden' among the states; known: home, out"):
        mdp.state_index("garden")
    with pytest.raises(InputError, match="'go' at 1 leads to 2, which is none of the states"):
        tabular.from_callables(
            [1], lambda s: ["go"], lambda s, a: {2: 1.0}, lambda *_: 0.0, discount=0.5
        )
    with pytest.raises(InputError, match="state 0 '1' has no action left"):
        tabular.from_callables(
            [1, 2], lambda s: ["go"] * (s - 1), lambda s, a: {2: 1.0}, lambda *_: 0.0, discount=0.5
        )


def test_distractors_change_no_value():
    inner = tabular.garnet(3, 3, 2, 2)
    chain = np.asarray([[0.1, 0.9], [0.6, 0.4]])
    mdp = tabular.with_distractors(inner, chain)
    # from (1, z=1) by action 0: the first factor's probabilities times those of the second's row
    np.testing.assert_allclose(
        mdp.transition[3, 0].reshape(3, 2), np.outer(inner.transition[1, 0], chain[1])
    )
    both, one = tabular.solve(mdp, 0.1), tabular.solve(inner, 0.1)
    np.testing.assert_allclose(both.q, np.repeat(np.asarray(one.q), 2, axis=0), rtol=1e-5)
    np.testing.assert_allclose(mdp.initial, np.full(6, 1 / 6))
    with pytest.raises(InputError, match="give a square matrix"):
        tabular.with_distractors(inner, chain[:1])
    with pytest.raises(InputError, match=r"sparse; build the MDP from"):
        tabular.with_distractors(tabular.garnet(3, 3, 2, 2, sparse=True), chain)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: tabular.garnet(0, 10**9, 10, 2), "numbers, which take .* GB of memory"),
        (lambda: tabular.grid_world(10**6, 10**6), "GB of memory; give fewer states, or sparse"),
        (lambda: tabular.grid_world(2, 2, slip="x"), "slip must be an array of real numbers"),
        (lambda: tabular.grid_world(2, 2, step_reward=[1, 2]), "step_reward must be one number"),
        (lambda: tabular.grid_world(2, 2, walls=3), "walls must be cells"),
        (lambda: tabular.grid_world(2, 2, walls=[(0.5, 1)]), "one is .0.5, 1."),
        (lambda: tabular.from_gymnasium("nope:X"), "can't make 'nope:X'"),
        (lambda: tabular.from_gymnasium("FrozenLake-v1", map_name="9x9"), "can't make"),
        (lambda: tabular.with_distractors(tabular.paper_mdp(), [["a"]]), "chain must be"),
        (lambda: tabular.solve(tabular.paper_mdp(), method=["auto"]), "method must be"),
        (lambda: tabular.solve(tabular.paper_mdp(), 1e-320), "temperature above 0"),
        (
            lambda: tabular.MDP(
                np.eye(2)[None].repeat(2, 0), np.ma.masked_less(np.eye(2), 1), np.asarray(0.5)
            ),
            "masked array",
        ),
    ],
)
@pytest.mark.stand_ins
def test_what_can_not_work_is_told(call, words):
    with pytest.raises(InputError, match=words):
        call()
