"""How transition probabilities are stored: dense rows, padded lists of successors, or a product.

Solvers ask a `Kernel` for expectations over next states and for the chain under a policy; nothing
else of them depends on how p(s'|s, a) is kept.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import sparse
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Shaped

from omd.errors import InputError

Numbers = ArrayLike | list[Any] | tuple[Any, ...]
"""What a user may give for an array: one, a number, or nested lists of numbers."""

MAX_UNROLLED = 32
"""Up to this many successors, a sweep is written out term by term."""


class Kernel(eqx.Module):
    """p(s'|s, a), as far as a solver needs it."""

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """[S, A, S'], the shape of the dense array that this stands for."""

    @property
    @abc.abstractmethod
    def terms(self) -> int:
        """Products that an expectation adds up at most."""

    @property
    @abc.abstractmethod
    def parts(self) -> tuple[Any, ...]:
        """The arrays of probabilities, whose last axis sums to one."""

    @property
    @abc.abstractmethod
    def layout(self) -> tuple[int, ...]:
        """The shape of a table with one number a transition, as r(s, a, s')."""

    @abc.abstractmethod
    def check(self) -> None:
        """Raises `InputError` where shapes or concrete indices are not as they must be."""

    @abc.abstractmethod
    def lists(self) -> tuple[np.ndarray, np.ndarray]:
        """(index, probability), both [S, A, K], of a concrete kernel."""

    def unlisted(self, table: np.ndarray, index: np.ndarray) -> np.ndarray:
        """A table with one number a transition, in the order of `lists`."""
        return np.take_along_axis(table, index, axis=-1)

    def repaired(self, mask: Bool[np.ndarray, "S A"]) -> Kernel:
        """Any valid row where a pair is masked, since 0 · nan would reach the sums."""
        return self

    @abc.abstractmethod
    def expected(self, v: Float[ArrayLike, " S"]) -> Float[Array, "S A"]:
        """Σ_s' p(s'|s, a) v(s')."""

    def swept(self, v: Float[Array, " S"]) -> Float[Array, "S A"]:
        """`expected`, in the form that is quickest in a loop which nobody differentiates."""
        return self.expected(v)

    @abc.abstractmethod
    def flowed(self, flow: Float[Array, "S A"]) -> Float[Array, " S"]:
        """Σ_s,a flow(s, a) p(s'|s, a), the transpose of `swept`, for such loops too."""

    @abc.abstractmethod
    def chain(self, weights: Float[Array, "S A"]) -> Float[Array, "S S"]:
        """Σ_a weights(s, a) p(s'|s, a), as a dense matrix."""

    @abc.abstractmethod
    def chosen(self, action: Int[Array, " S"]) -> Kernel:
        """The rows of one action in every state, as a kernel with one action."""

    def under(self, weights: Float[Array, "S A"]) -> Kernel:
        """Σ_a weights(s, a) p(·|s, a), as a kernel with one action."""
        return _Weighted(self, weights)

    def mixed_lists(
        self, weights: Float[Array, "S A"]
    ) -> tuple[Int[Array, "S M"], Float[Array, "S M"]] | None:
        """Successors of each state and Σ_a weights(s, a) p(·|s, a) at each of them, or None where
        nobody keeps them."""
        return None

    @abc.abstractmethod
    def totals(self) -> Float[Array, "S A"]:
        """Σ_s' p(s'|s, a): one, but for rounding."""

    def scaled_to_one(self) -> Kernel:
        """Every row divided by its sum, which gets no derivative."""
        return self.scaled(1 / jax.lax.stop_gradient(self.totals())[..., None])

    @abc.abstractmethod
    def probability_of(
        self, state: Int[Array, " *n"], action: Int[Array, " *n"], successor: Int[Array, " *n"]
    ) -> Float[Array, " *n"]:
        """p(s'|s, a) of single transitions, without any table of all."""

    @abc.abstractmethod
    def scaled(self, factor: Float[ArrayLike, " S A #K"]) -> Kernel:
        """Every probability times a factor of its own or of its row."""

    @abc.abstractmethod
    def todense(self) -> Float[Array, "S A S"]:
        """The transition probabilities as one dense array [S, A, S']."""

    @abc.abstractmethod
    def cast(self, dtype: Any) -> Kernel:
        """The same kernel with probabilities of another type."""


class Rows(Kernel):
    """Dense rows P[S, A, S']."""

    probability: Shaped[Array | np.ndarray, " ..."]
    """[S, A, S']; `check` says what is wrong with another shape or type."""

    @property
    def shape(self) -> tuple[int, int, int]:
        states, actions, successors = self.probability.shape
        return states, actions, successors

    @property
    def terms(self) -> int:
        return self.shape[-1]

    @property
    def parts(self) -> tuple[Any, ...]:
        return (self.probability,)

    @property
    def layout(self) -> tuple[int, ...]:
        return self.shape

    def check(self) -> None:
        shape = tuple(self.probability.shape)
        if len(shape) != 3 or shape[0] != shape[2] or 0 in shape:
            raise InputError(
                f"transition needs shape [S, A, S'] with S' = S, but has {shape}; "
                "put the axes in the order state, action, next state."
            )

    def lists(self) -> tuple[np.ndarray, np.ndarray]:
        table = np.asarray(self.probability)
        width = max(1, int((table != 0).sum(axis=-1).max()))
        index = np.argsort(table == 0, axis=-1, kind="stable")[..., :width]
        return index, np.take_along_axis(table, index, axis=-1)

    def repaired(self, mask: Bool[np.ndarray, "S A"]) -> Rows:
        return Rows(_first_where_masked(self.probability, mask))

    def expected(self, v: Float[ArrayLike, " T"]) -> Float[Array, "S A"]:
        return _dot(self.probability, v, (((2,), (0,)), ((), ())))

    def flowed(self, flow: Float[Array, "S A"]) -> Float[Array, " T"]:
        return _dot(flow, self.probability, (((0, 1), (0, 1)), ((), ())))

    def chain(self, weights: Float[Array, "S A"]) -> Float[Array, "S T"]:
        return _dot(weights, self.probability, (((1,), (1,)), ((0,), (0,))))

    def under(self, weights: Float[Array, "S A"]) -> Rows:
        return Rows(self.chain(weights)[:, None])

    def chosen(self, action: Int[Array, " S"]) -> Rows:
        return Rows(jnp.take_along_axis(self.probability, action[:, None, None], axis=1))

    def totals(self) -> Float[Array, "S A"]:
        return self.probability.sum(axis=-1)

    def probability_of(
        self, state: Int[Array, " *n"], action: Int[Array, " *n"], successor: Int[Array, " *n"]
    ) -> Float[Array, " *n"]:
        return jnp.asarray(self.probability)[state, action, successor]

    def scaled(self, factor: Float[ArrayLike, " S A #K"]) -> Rows:
        return Rows(self.probability * factor)

    def todense(self) -> Float[Array, "S A T"]:
        return jnp.asarray(self.probability)

    def cast(self, dtype: Any) -> Rows:
        return Rows(jnp.asarray(self.probability, dtype))


class Successors(Kernel):
    """At most K successors of every pair: p(index[s, a, k] | s, a) = probability[s, a, k].

    A row with fewer than K successors is padded with probability 0 (at any valid index), and an
    index that occurs twice in a row counts with the sum. An expectation over next states is a
    gather over K, which on a CPU is several times faster than a product with a BCOO matrix.
    """

    index: Shaped[Array | np.ndarray, " ..."]
    """[S, A, K], integers; `check` says what is wrong with another shape or type."""
    probability: Shaped[Array | np.ndarray, " ..."]
    """[S, A, K]."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """[S, A, S'], the shape of the dense array that this stands for."""
        states, actions, _ = self.probability.shape
        return states, actions, states

    @property
    def terms(self) -> int:
        return self.probability.shape[-1]

    @property
    def parts(self) -> tuple[Any, ...]:
        return (self.probability,)

    @property
    def layout(self) -> tuple[int, ...]:
        return tuple(self.probability.shape)

    def check(self) -> None:
        index, probability = jnp.shape(self.index), jnp.shape(self.probability)
        if index != probability or len(index) != 3 or 0 in index:
            raise InputError(
                f"successors need index and probability of one shape [S, A, K], but have "
                f"{index} and {probability}; pad short rows with probability 0."
            )
        if not jnp.issubdtype(self.index.dtype, jnp.integer):
            raise InputError(
                f"successor indices must be integers, but their type is {self.index.dtype}; "
                "convert them to int32."
            )
        if isinstance(self.index, jax.core.Tracer):
            return
        table, states = np.asarray(self.index), self.shape[0]
        outside = (table < 0) | (table >= states)
        if outside.any():
            at = tuple(int(i) for i in np.unravel_index(int(outside.argmax()), outside.shape))
            raise InputError(
                f"successor index{at} is {table[at]}, but states are numbered 0 to "
                f"{states - 1}; pad with a valid index and probability 0."
            )

    def lists(self) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(self.index), np.asarray(self.probability)

    def unlisted(self, table: np.ndarray, index: np.ndarray) -> np.ndarray:
        return table

    def repaired(self, mask: Bool[np.ndarray, "S A"]) -> Successors:
        return Successors(self.index, _first_where_masked(self.probability, mask))

    def expected(self, v: Float[ArrayLike, " S"]) -> Float[Array, "S A"]:
        return _expected(jnp.asarray(self.probability), jnp.asarray(self.index), jnp.asarray(v))

    def swept(self, v: Float[Array, " S"]) -> Float[Array, "S A"]:
        # a sum of K gathers is one pass for XLA, a gather [S, A, K] is not
        if self.terms > MAX_UNROLLED:
            return (self.probability * jax.lax.optimization_barrier(v[self.index])).sum(axis=-1)
        mean = jnp.zeros(self.probability.shape[:-1], v.dtype)
        for k in range(self.terms):
            mean += self.probability[..., k] * v.at[self.index[..., k]].get(
                mode="promise_in_bounds", wrap_negative_indices=False
            )
        return mean

    def flowed(self, flow: Float[Array, "S A"]) -> Float[Array, " S"]:
        added = flow[..., None] * self.probability
        return jnp.zeros(self.shape[0], added.dtype).at[self.index].add(added)

    def chain(self, weights: Float[Array, "S A"]) -> Float[Array, "S S"]:
        states = self.shape[0]
        flat = (weights[..., None] * self.probability).reshape(states, -1)
        chain = jnp.zeros((states, states), flat.dtype)
        return chain.at[jnp.arange(states)[:, None], self.index.reshape(states, -1)].add(flat)

    def mixed_lists(
        self, weights: Float[Array, "S A"]
    ) -> tuple[Int[Array, "S M"], Float[Array, "S M"]]:
        flat = (self.shape[0], -1)
        mixed = weights[..., None] * self.probability
        return jnp.asarray(self.index).reshape(flat), mixed.reshape(flat)

    def chosen(self, action: Int[Array, " S"]) -> Successors:
        where = action[:, None, None]
        return Successors(
            jnp.take_along_axis(self.index, where, axis=1),
            jnp.take_along_axis(self.probability, where, axis=1),
        )

    def totals(self) -> Float[Array, "S A"]:
        return self.probability.sum(axis=-1)

    def probability_of(
        self, state: Int[Array, " *n"], action: Int[Array, " *n"], successor: Int[Array, " *n"]
    ) -> Float[Array, " *n"]:
        listed = jnp.asarray(self.index)[state, action] == successor[..., None]
        return jnp.where(listed, jnp.asarray(self.probability)[state, action], 0).sum(axis=-1)

    def scaled(self, factor: Float[ArrayLike, " S A #K"]) -> Successors:
        return Successors(self.index, self.probability * factor)

    def todense(self) -> Float[Array, "S A S"]:
        """The transition probabilities as one dense array [S, A, S']."""
        states, actions, _ = self.shape
        s, a = jnp.ogrid[:states, :actions]
        dense = jnp.zeros(self.shape, self.probability.dtype)
        return dense.at[s[..., None], a[..., None], self.index].add(self.probability)

    def cast(self, dtype: Any) -> Successors:
        return Successors(self.index, jnp.asarray(self.probability, dtype))


class Factored(Kernel):
    """A controlled part times an exogenous chain: p((y', x')|(y, x), a) = p(y'|y, a) q(x'|x).

    State s = y · X + x. An expectation costs one over the exogenous chain and one over the
    controlled part, so 10⁴ × 10⁴ states need no row of their 10⁸.
    """

    controlled: Kernel = eqx.field(converter=lambda rows: as_kernel(rows))
    """p(y'|y, a), [Y, A, Y'], a kernel or a dense array."""
    exogenous: Kernel = eqx.field(converter=lambda rows: as_kernel(rows))
    """q(x'|x), [X, 1, X'], a kernel or a dense array."""

    @property
    def shape(self) -> tuple[int, int, int]:
        y, actions, _ = self.controlled.shape
        states = y * self.exogenous.shape[0]
        return states, actions, states

    @property
    def terms(self) -> int:
        return self.controlled.terms + self.exogenous.terms

    @property
    def parts(self) -> tuple[Any, ...]:
        return (*self.controlled.parts, *self.exogenous.parts)

    @property
    def layout(self) -> tuple[int, ...]:
        return self.shape[:2]

    def check(self) -> None:
        self.controlled.check()
        self.exogenous.check()
        if self.exogenous.shape[1] != 1:
            raise InputError(
                f"the exogenous chain has {self.exogenous.shape[1]} actions, but nobody controls "
                "it; give it the shape [X, 1, X']."
            )

    def lists(self) -> tuple[np.ndarray, np.ndarray]:
        (y_index, y_weight), (x_index, x_weight) = self.controlled.lists(), self.exogenous.lists()
        y_index, y_weight = (t[:, None, :, :, None] for t in (y_index, y_weight))
        x_index, x_weight = (t[None, :, :, None, :] for t in (x_index, x_weight))
        flat = (*self.shape[:2], -1)
        index = y_index * self.exogenous.shape[0] + x_index
        return index.reshape(flat), (y_weight * x_weight).reshape(flat)

    def expected(self, v: Float[ArrayLike, " S"]) -> Float[Array, "S A"]:
        return self._expected(v, lambda kernel, v: kernel.expected(v))

    def swept(self, v: Float[Array, " S"]) -> Float[Array, "S A"]:
        return self._expected(v, lambda kernel, v: kernel.swept(v))

    def _expected(self, v: ArrayLike, over: Any) -> Float[Array, "S A"]:
        (y, actions, _), x = self.controlled.shape, self.exogenous.shape[0]
        grid = jnp.reshape(v, (y, x))
        grid = jax.vmap(lambda row: over(self.exogenous, row)[:, 0])(grid)
        image = jax.vmap(lambda column: over(self.controlled, column), 1, 1)(grid)
        return image.reshape(y * x, actions)

    def flowed(self, flow: Float[Array, "S A"]) -> Float[Array, " S"]:
        like = jax.ShapeDtypeStruct(self.shape[:1], flow.dtype)
        return jax.linear_transpose(self.swept, like)(flow)[0]

    def chain(self, weights: Float[Array, "S A"]) -> Float[Array, "S S"]:
        (y, actions, _), x = self.controlled.shape, self.exogenous.shape[0]
        chain = jnp.einsum(
            "yxa,yaz,xw->yxzw",
            weights.reshape(y, x, actions),
            self.controlled.todense(),
            self.exogenous.todense()[:, 0],
        )
        return chain.reshape(y * x, y * x)

    def chosen(self, action: Int[Array, " S"]) -> Kernel:
        return _Chosen(self, action)

    def totals(self) -> Float[Array, "S A"]:
        both = self.controlled.totals()[:, None] * self.exogenous.totals()[None]
        return both.reshape(self.shape[:2])

    def probability_of(
        self, state: Int[Array, " *n"], action: Int[Array, " *n"], successor: Int[Array, " *n"]
    ) -> Float[Array, " *n"]:
        (y, x), (to_y, to_x) = (jnp.divmod(s, self.exogenous.shape[0]) for s in (state, successor))
        moved = self.controlled.probability_of(y, action, to_y)
        return moved * self.exogenous.probability_of(x, jnp.zeros_like(x), to_x)

    def scaled_to_one(self) -> Kernel:
        return Factored(self.controlled.scaled_to_one(), self.exogenous.scaled_to_one())

    def scaled(self, factor: Float[ArrayLike, " S A #K"]) -> Kernel:
        raise InputError(
            "a factored transition has no row of its own for a discount per transition; "
            "give one discount for each state or pair, or build the product as Successors."
        )

    def todense(self) -> Float[Array, "S A S"]:
        states, actions, _ = self.shape
        return jax.vmap(self.chain, 0, 1)(
            jnp.broadcast_to(jnp.eye(actions)[:, None], (actions, states, actions))
        )

    def cast(self, dtype: Any) -> Factored:
        return Factored(self.controlled.cast(dtype), self.exogenous.cast(dtype))


class _OfAnother(Kernel):
    """One action in every state, made of another kernel when it is asked for."""

    kernel: Kernel

    @abc.abstractmethod
    def _one(self, table: Float[Array, "S A"]) -> Float[Array, "S 1"]:
        """One column of a table with a column for each action."""

    @property
    def shape(self) -> tuple[int, int, int]:
        states, _, successors = self.kernel.shape
        return states, 1, successors

    @property
    def terms(self) -> int:
        return self.kernel.terms

    @property
    def parts(self) -> tuple[Any, ...]:
        return self.kernel.parts

    @property
    def layout(self) -> tuple[int, ...]:
        return self.shape[:2]

    def check(self) -> None:
        self.kernel.check()

    def lists(self) -> tuple[np.ndarray, np.ndarray]:
        return Rows(self.todense()).lists()

    def expected(self, v: Float[ArrayLike, " S"]) -> Float[Array, "S 1"]:
        return self._one(self.kernel.expected(v))

    def swept(self, v: Float[Array, " S"]) -> Float[Array, "S 1"]:
        return self._one(self.kernel.swept(v))

    def flowed(self, flow: Float[Array, "S 1"]) -> Float[Array, " S"]:
        like = jax.ShapeDtypeStruct(self.kernel.shape[:2], flow.dtype)
        return self.kernel.flowed(jax.linear_transpose(self._one, like)(flow)[0])

    def chosen(self, action: Int[Array, " S"]) -> Kernel:
        return self

    def totals(self) -> Float[Array, "S 1"]:
        return self._one(self.kernel.totals())

    def probability_of(
        self, state: Int[Array, " *n"], action: Int[Array, " *n"], successor: Int[Array, " *n"]
    ) -> Float[Array, " *n"]:
        raise NotImplementedError("transitions are asked for before actions are chosen")

    def scaled(self, factor: Float[ArrayLike, " S A #K"]) -> Kernel:
        raise NotImplementedError("kernels are scaled before actions are chosen")

    def todense(self) -> Float[Array, "S 1 S"]:
        return jax.vmap(self._one, -1, -1)(self.kernel.todense())

    def cast(self, dtype: Any) -> Kernel:
        return eqx.tree_at(lambda kernel: kernel.kernel, self, self.kernel.cast(dtype))


class _Chosen(_OfAnother):
    """One action in every state of a kernel that has no rows to pick from."""

    action: Int[Array, " S"]

    def _one(self, table: Float[Array, "S A"]) -> Float[Array, "S 1"]:
        return jnp.take_along_axis(table, self.action[:, None], axis=1)

    def chain(self, weights: Float[Array, "S 1"]) -> Float[Array, "S S"]:
        one = jax.nn.one_hot(self.action, self.kernel.shape[1], dtype=weights.dtype)
        return self.kernel.chain(weights * one)


class _Weighted(_OfAnother):
    """Actions mixed by weights."""

    weights: Float[Array, "S A"]

    def _one(self, table: Float[Array, "S A"]) -> Float[Array, "S 1"]:
        return (self.weights * table).sum(axis=-1, keepdims=True)

    def chain(self, weights: Float[Array, "S 1"]) -> Float[Array, "S S"]:
        return self.kernel.chain(weights * self.weights)

    def mixed_lists(
        self, weights: Float[Array, "S 1"]
    ) -> tuple[Int[Array, "S M"], Float[Array, "S M"]] | None:
        return self.kernel.mixed_lists(weights * self.weights)


def _dot(x: ArrayLike, y: ArrayLike, dimensions: Any) -> Array:
    """A product whose transpose keeps its precision where 64-bit numbers are off by default.

    Those of jax.numpy name the type of their result, which is cut to float32 there.
    """
    x, y = jnp.asarray(x), jnp.asarray(y)
    dtype = jnp.result_type(x, y)
    return jax.lax.dot_general(x.astype(dtype), y.astype(dtype), dimensions)


@eqx.filter_custom_jvp
def _expected(
    probability: Float[Array, "S A K"], index: Int[Array, "S A K"], v: Float[Array, " S"]
) -> Float[Array, "S A"]:
    """Σ_k p(s, a, k) v(index[s, a, k]) as quick as a sweep, and its transpose with it."""
    kernel = Successors(index, probability)
    return _solved_for(kernel.swept, kernel.flowed, v, kernel.shape[:2])


@_expected.def_jvp
def _expected_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    (probability, index, v), (dp, _, dv) = primals, tangents
    value = _expected(probability, index, v)
    change = jnp.zeros_like(value) if dv is None else _expected(probability, index, dv)
    if dp is None:
        return value, change
    # fused with the sum, a lookup takes ten times as long
    found = jax.lax.optimization_barrier(_looked_up(v, index))
    return value, change + (dp * found).sum(axis=-1)


def _looked_up(v: Float[Array, " S"], index: Any) -> Float[Array, "S A K"]:
    """v[index], with its transpose."""

    def added(found):
        return jnp.zeros_like(v).at[index].add(found)

    return _solved_for(lambda v: v[index], added, v, jnp.shape(index))


def _solved_for(
    product: Callable[[Array], Array],
    transposed: Callable[[Array], Array],
    v: Float[Array, " S"],
    shape: tuple[int, ...],
) -> Array:
    """product(v), linear in v, whose transpose is the one given.

    The transpose that JAX makes of a lookup starts from zeros, which are cut to float32 where
    64-bit numbers are off by default and it is transposed later. Solving for y in
    (x, y − product(x)) = (v, 0) is the same, and brings its transpose along.
    """
    # zeros that count as linear in v
    nothing = jnp.broadcast_to(0 * v[0], shape)
    both = jax.lax.custom_linear_solve(
        lambda found: (found[0], found[1] - product(found[0])),
        (v, nothing),
        lambda _, right: (right[0], right[1] + product(right[0])),
        lambda _, right: (right[0] + transposed(right[1]), right[1]),
    )
    # a part that nobody uses has no cotangent, and JAX asks for one
    return both[1] + 0 * both[0][0]


def _first_where_masked(probability: Any, mask: Bool[np.ndarray, "S A"]) -> Any:
    if mask.all():
        return probability
    first = np.eye(1, probability.shape[-1], dtype=probability.dtype)[0]
    where = np if isinstance(probability, np.ndarray) else jnp
    return where.where(mask[..., None], probability, first)


def as_kernel(transition: Shaped[Array | np.ndarray, " ..."] | Kernel) -> Kernel:
    """A `Kernel` as it is, an array as `Rows`."""
    return transition if isinstance(transition, Kernel) else Rows(transition)


def from_dense(transition: Shaped[Array | np.ndarray, "S A S"]) -> Successors:
    """Successors of a concrete dense P[S, A, S']; K is the largest number of them in a row."""
    index, probability = Rows(transition).lists()
    return Successors(jnp.asarray(index, jnp.int32), jnp.asarray(probability))


def from_jax_sparse(transition: sparse.BCOO | sparse.BCSR) -> Successors:
    """Successors of a BCOO or BCSR matrix [S·A, S'] (row s·A + a) or a BCOO array [S, A, S'].

    Its values may be traced, so gradients flow back to `transition.data`; its indices may not,
    since K depends on them. Raises `InputError` for another shape or traced indices.
    """
    matrix = transition.to_bcoo() if isinstance(transition, sparse.BCSR) else transition
    shape = matrix.shape
    if matrix.n_batch or matrix.n_dense or len(shape) not in (2, 3):
        raise InputError(
            f"a sparse transition needs shape [S*A, S] or [S, A, S] without batch or dense "
            f"dimensions, but has shape {shape} with {matrix.n_batch} batch and "
            f"{matrix.n_dense} dense dimensions; "
            "reshape it or pass a dense array."
        )
    check_pairs(shape)
    if isinstance(matrix.indices, jax.core.Tracer):
        raise InputError(
            "the indices of a sparse transition are traced, and their number in each row must be "
            "known; build the MDP outside jit and vmap, or pass tabular.Successors."
        )
    where = np.asarray(matrix.indices)
    # padding of a BCOO array lies out of bounds
    kept = np.flatnonzero((where < np.asarray(shape)).all(axis=-1))
    row = np.ravel_multi_index(tuple(where[kept, :-1].T), shape[:-1])
    order = np.argsort(row, kind="stable")
    row, kept = row[order], kept[order]
    rows = int(np.prod(shape[:-1]))
    index, rank = lists_of_successors(row, where[kept, -1], rows)
    probability = jnp.zeros(index.shape, matrix.data.dtype)
    probability = probability.at[row, rank].set(matrix.data[kept])
    states = shape[-1]
    lists = (states, rows // states, index.shape[-1])
    return Successors(jnp.asarray(index.reshape(lists)), probability.reshape(lists))


def check_pairs(shape: tuple[int, ...]) -> None:
    """Raises `InputError` where a sparse shape is no [S·A, S] or [S, A, S]."""
    states = shape[-1]
    rows = int(np.prod(shape[:-1]))
    if rows % max(states, 1) or (len(shape) == 3 and shape[0] != states):
        raise InputError(
            f"a sparse transition of shape {shape} has no whole number of actions for "
            f"{states} states; use shape [S*A, S] with row s*A + a, or [S, A, S]."
        )


def lists_of_successors(
    row: Int[np.ndarray, " n"], column: Int[np.ndarray, " n"], rows: int
) -> tuple[Int[np.ndarray, "rows K"], Int[np.ndarray, " n"]]:
    """(index [rows, K], place of each entry in its row) of entries sorted by row."""
    count = np.bincount(row, minlength=rows)
    rank = np.arange(row.size) - np.repeat(np.cumsum(count) - count, count)
    index = np.zeros((rows, max(1, int(count.max(initial=0)))), np.int32)
    index[row, rank] = column
    return index, rank
