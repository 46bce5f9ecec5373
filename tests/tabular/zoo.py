"""Thirty small MDPs as exact rationals, and their solutions without floating point."""

from fractions import Fraction as F
from typing import NamedTuple

import mpmath
import numpy as np

mpmath.mp.dps = 80


class Case(NamedTuple):
    name: str
    transition: list  # P[s][a] = {successor: Fraction}
    reward: list  # r[s][a], Fractions; None where the action is not available
    discount: F
    temperature: F | None  # None is the hard operator

    def tables(self):
        """(P, r) as float64 arrays, rounded once from the rationals."""
        states, actions = len(self.reward), len(self.reward[0])
        p = np.zeros((states, actions, states))
        for s, row in enumerate(self.transition):
            for a, successors in enumerate(row):
                for t, weight in successors.items():
                    p[s, a, t] = float(weight)
        r = [[-np.inf if x is None else float(x) for x in row] for row in self.reward]
        return p, np.asarray(r)


def solve_rationals(rows, right):
    """Gaussian elimination over the rationals."""
    size = len(right)
    table = [[*row, b] for row, b in zip(rows, right, strict=True)]
    for i in range(size):
        pivot = next(k for k in range(i, size) if table[k][i] != 0)
        table[i], table[pivot] = table[pivot], table[i]
        table[i] = [x / table[i][i] for x in table[i]]
        for k in range(size):
            if k != i and table[k][i] != 0:
                table[k] = [x - table[k][i] * y for x, y in zip(table[k], table[i], strict=True)]
    return [row[-1] for row in table]


def lookahead(case, v):
    discount = (
        case.discount
        if case.temperature is None
        else mpmath.mpf(case.discount.numerator) / case.discount.denominator
    )
    exact = (
        (lambda x: x)
        if case.temperature is None
        else (lambda x: mpmath.mpf(x.numerator) / x.denominator)
    )
    return [
        [
            None
            if r is None
            else exact(r) + discount * sum(exact(w) * v[t] for t, w in successors.items())
            for r, successors in zip(rewards, row, strict=True)
        ]
        for rewards, row in zip(case.reward, case.transition, strict=True)
    ]


def solve_exactly(case):
    """(v, q) as Fractions by policy iteration, or as numbers of 80 digits by soft iteration."""
    if case.temperature is not None:
        return solve_to_80_digits(case)
    size = len(case.reward)
    best = [next(a for a, r in enumerate(row) if r is not None) for row in case.reward]
    while True:
        rows = [[F(int(s == t)) for t in range(size)] for s in range(size)]
        for s in range(size):
            for t, weight in case.transition[s][best[s]].items():
                rows[s][t] -= case.discount * weight
        v = solve_rationals(rows, [case.reward[s][best[s]] for s in range(size)])
        q = lookahead(case, v)
        better = [
            next((a for a, x in enumerate(q[s]) if x is not None and x > q[s][best[s]]), best[s])
            for s in range(size)
        ]
        if better == best:
            return v, q
        best = better


def solve_to_80_digits(case):
    size = len(case.reward)
    alpha = mpmath.mpf(case.temperature.numerator) / case.temperature.denominator
    gamma = mpmath.mpf(case.discount.numerator) / case.discount.denominator
    v = [mpmath.mpf(0)] * size
    for _ in range(10_000):
        q = lookahead(case, v)
        tops = [max(x for x in row if x is not None) for row in q]
        weight = [
            [0 if x is None else mpmath.exp((x - top) / alpha) for x in row]
            for row, top in zip(q, tops, strict=True)
        ]
        image = [top + alpha * mpmath.log(sum(w)) for top, w in zip(tops, weight, strict=True)]
        matrix = mpmath.eye(size)
        for s in range(size):
            for a, successors in enumerate(case.transition[s]):
                for t, p in successors.items():
                    pi = weight[s][a] / sum(weight[s])
                    matrix[s, t] -= gamma * pi * p.numerator / p.denominator
        step = mpmath.lu_solve(
            matrix, mpmath.matrix([x - y for x, y in zip(image, v, strict=True)])
        )
        v = [x + y for x, y in zip(v, step, strict=True)]
        if max(abs(x) for x in step) <= mpmath.mpf(10) ** -60 * max(abs(x) for x in v):
            return v, lookahead(case, v)
    raise AssertionError("no soft solution to 60 digits")


def corridor(cells, penalty, discount, temperature=None):
    """Stay, right, forbidden; entering the last cell earns 1."""
    last = cells - 1
    transition = [[{s: F(1)}, {min(s + 1, last): F(1)}, {s: F(1)}] for s in range(cells)]
    reward = [[F(0), F(int(s == last - 1)), F(penalty)] for s in range(cells)]
    return transition, reward, F(discount), temperature


def random(seed, states, actions, discount, temperature, scale=1, branching=2, masked=0):
    """Weights in 97ths, rewards in hundredths times scale."""
    rng = np.random.default_rng(seed)
    transition, reward = [], []
    for _ in range(states):
        row, earned = [], []
        for a in range(actions):
            where = rng.choice(states, branching, replace=False)
            cuts = np.sort(rng.integers(1, 97, branching - 1))
            parts = np.diff([0, *cuts, 97])
            row.append({int(t): F(int(w), 97) for t, w in zip(where, parts, strict=True) if w})
            hidden = a > 0 and rng.random() < masked
            earned.append(None if hidden else F(int(rng.integers(-100, 101)), 100) * scale)
        transition.append(row)
        reward.append(earned)
    return transition, reward, F(discount), temperature


def cliff(rows, columns, discount, temperature=None):
    """CliffWalking: −1 a step, −100 and back to the start from the cliff, an absorbing end."""
    start, end = (rows - 1) * columns, rows * columns - 1
    cells = rows * columns
    transition, reward = [], []
    for s in range(cells):
        y, x = divmod(s, columns)
        row, earned = [], []
        for dy, dx in ((-1, 0), (0, 1), (1, 0), (0, -1)):
            ty, tx = min(max(y + dy, 0), rows - 1), min(max(x + dx, 0), columns - 1)
            t = ty * columns + tx
            fall = ty == rows - 1 and 0 < tx < columns - 1
            if s == end:
                row.append({end: F(1)})
                earned.append(F(0))
            else:
                row.append({start if fall else t: F(1)})
                earned.append(F(-100 if fall else -1))
        transition.append(row)
        reward.append(earned)
    return transition, reward, F(discount), temperature


def rust_like(cells, discount, temperature):
    """Keep or replace an engine: mileage moves 0, 1 or 2 cells."""
    move = (F("0.3919"), F("0.5953"), F("0.0128"))
    transition, reward = [], []
    for s in range(cells):
        keep, replace = {}, {}
        for step, weight in enumerate(move):
            for row, base in ((keep, s), (replace, 0)):
                t = min(base + step, cells - 1)
                row[t] = row.get(t, 0) + weight
        transition.append([keep, replace])
        reward.append([F(-s, 40), F(-10)])
    return transition, reward, F(discount), temperature


NEAR = "0.9999"
CASES = [
    Case(name, *made)
    for name, made in {
        "corridor, −1e4": corridor(12, -(10**4), "0.9"),
        "corridor, −1e6": corridor(12, -(10**6), "0.9"),
        "long corridor, −1e6": corridor(24, -(10**6), "0.9"),
        "corridor, −1e9, near 1": corridor(12, -(10**9), NEAR),
        "soft corridor, −1e4": corridor(12, -(10**4), "0.9", F("0.01")),
        "soft corridor, −1e9, near 1": corridor(8, -(10**9), NEAR, F("0.1")),
        "seven states, −1e6": corridor(7, -(10**6), "0.9"),
        "cliff": cliff(4, 6, "0.99"),
        "cliff near 1": cliff(4, 6, NEAR),
        "small soft cliff near 1": cliff(3, 4, NEAR, F(1)),
        "random hard": random(0, 6, 3, "0.9", None),
        "random hard near 1": random(1, 6, 3, NEAR, None),
        "random hard ±1e4": random(2, 6, 3, "0.95", None, scale=10**4),
        "random hard ±1e4 near 1": random(3, 6, 3, NEAR, None, scale=10**4),
        "random masked": random(4, 6, 4, "0.95", None, masked=0.5),
        "random masked near 1": random(5, 6, 4, NEAR, None, masked=0.5),
        "soft": random(6, 6, 3, "0.9", F("0.01")),
        "soft near 1": random(7, 6, 3, NEAR, F("0.01")),
        "soft ±1e4 near 1": random(8, 5, 3, NEAR, F(1), scale=10**4),
        "soft masked near 1": random(9, 6, 4, NEAR, F("0.1"), masked=0.5),
        "coldest": random(10, 5, 3, "0.9", F("0.000001")),
        "coldest near 1": random(11, 5, 3, NEAR, F("0.000001")),
        "coldest ±1e4": random(12, 5, 3, "0.99", F("0.000001"), scale=10**4),
        "hottest": random(13, 5, 3, "0.9", F(1000)),
        "hottest near 1": random(14, 5, 3, NEAR, F(1000)),
        "warm at 0.999": random(15, 6, 3, "0.999", F(1)),
        "no future": random(16, 4, 3, "0", F("0.5")),
        "bus engine": rust_like(12, NEAR, F(1)),
        "bus engine, hard": rust_like(20, "0.99", None),
        "deterministic": random(17, 7, 3, "0.999", None, branching=1),
    }.items()
]
