import csv
import importlib
import json

import numpy as np
import pytest

from omd.errors import InputError
from omd.figures import figure_phase as phase
from omd.figures import style
from omd.figures.curves import table
from omd.runs import files

REQUIRED = {
    2: ["objective", "norm_bound", "seed", "expected_return"],
    3: ["objective", "norm_bound", "seed", "q_error", "bound_gap"],
    6: ["hypergradient", "sigma", "seed", "expected_return"],
}
CERTIFICATE = [
    "projected_gradient_residual",
    "tolerance",
    "norm",
    "starts",
    "starts_converged",
    "starts_agreeing",
]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """Each figure once, in smoke, by number and projection."""
    made = {}

    def make(number, projection):
        if (number, projection) not in made:
            out = tmp_path_factory.mktemp("figures") / "new" / "folder"
            said = []
            module = importlib.import_module(f"omd.figures.paper.figure_{number}")
            paths = module.make(
                out, budget="smoke", projection=projection, seeds=3, say=said.append
            )
            made[number, projection] = out, paths, said
        return made[number, projection]

    return make


def rows(out, number):
    with (out / f"figure-{number}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("number", "projection"), [(2, "reference"), (3, "ball"), (6, "ball")])
def test_files(smoke, number, projection):
    out, paths, said = smoke(number, projection)
    names = [f"figure-{number}{suffix}" for suffix in (".png", ".pdf", ".csv", ".json")]
    assert [path.name for path in paths] == names
    assert sorted(path.name for path in out.iterdir()) == sorted(names)  # nothing left over
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert paths[1].read_bytes().startswith(b"%PDF")
    assert said
    record = json.loads(paths[3].read_text())
    assert record["figure"] == number
    assert record["budget"] == "smoke"
    assert record["projection"] == projection
    assert record["wall_clock_seconds"] > 0
    assert {"settings", "versions", "device"} <= set(record)
    assert str(out) not in paths[3].read_text() + paths[2].read_text()


@pytest.mark.parametrize(("number", "projection"), [(2, "reference"), (3, "ball"), (6, "ball")])
def test_table(smoke, number, projection):
    out, *_ = smoke(number, projection)
    table = rows(out, number)
    assert list(table[0])[: len(REQUIRED[number])] == REQUIRED[number]
    x = "sigma" if number == 6 else "norm_bound"
    kinds = {"exact", "identity"} if number == 6 else {"OMD", "MLE"}
    points = {(row[REQUIRED[number][0]], float(row[x]), int(row["seed"])) for row in table}
    assert len(points) == len(table)
    assert {kind for kind, *_ in points} == kinds
    assert {seed for *_, seed in points} == {1, 2}  # smoke has two seeds at most
    assert len(table) == 2 * 2 * (4 if number == 6 else 5)
    assert {row["status"] for row in table} <= {"converged", "max_steps"}
    for row in table:
        assert np.isfinite(float(row[REQUIRED[number][3]]))


def test_reference_settings(smoke):
    """The lane without a bound, which figure 3 draws, is no row of the table."""
    out, *_ = smoke(2, "reference")
    assert {float(row["norm_bound"]) for row in rows(out, 2)} == {0, 1.5, 3, 4.5, 6}


def test_certificate(smoke):
    """On the ball every row says how stationary its model is, and on which of its starts."""
    out, *_ = smoke(3, "ball")
    for row in rows(out, 3):
        assert list(row)[-len(CERTIFICATE) :] == CERTIFICATE
        if row["status"] == "converged":
            assert float(row["projected_gradient_residual"]) <= float(row["tolerance"])
        assert float(row["norm"]) <= float(row["norm_bound"]) + 1e-9
        assert 0 <= int(row["starts_agreeing"]) <= int(row["starts_converged"])
        assert int(row["starts_converged"]) <= int(row["starts"])


def test_theorem_2_in_the_table(smoke):
    """OMD's gap is never below zero, and MLE's never below OMD's (figure 3's claim)."""
    out, *_ = smoke(3, "ball")
    gaps = {"OMD": {}, "MLE": {}}
    for row in rows(out, 3):
        gaps[row["objective"]][row["norm_bound"], row["seed"]] = float(row["bound_gap"])
    for place, gap in gaps["OMD"].items():
        assert gap >= -1e-12
        assert gaps["MLE"][place] >= gap


def test_drawn_model_shares_q_star(smoke):
    out, *_ = smoke(3, "ball")
    record = json.loads((out / "figure-3.json").read_text())
    drawn = record["drawn_model"]
    np.testing.assert_allclose(np.sum(drawn["transition"], axis=-1), 1)
    np.testing.assert_allclose(drawn["q"], record["q_star"], atol=1e-6)
    assert np.abs(np.subtract(drawn["transition"], [[[0.7, 0.3], [0.99, 0.01]]] * 2)).max() > 0.1


@pytest.mark.parametrize("number", [2, 3, 6])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": "big"}, "budget must be smoke or paper, but is 'big'"),
        ({"projection": "box"}, "projection must be reference or ball, but is 'box'"),
        ({"seeds": 0}, "seeds is 0: give a number of at least 1"),
    ],
)
def test_bad_options(tmp_path, number, options, message):
    module = importlib.import_module(f"omd.figures.paper.figure_{number}")
    with pytest.raises(InputError, match=message):
        module.make(tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_only_smoke_is_marked():
    for budget, marks in (("smoke", 1), ("paper", 0)):
        figure = style.new_figure(3, 2)
        style.watermark(figure, budget)
        assert len([text for text in figure.texts if "SMOKE" in text.get_text()]) == marks


def test_captions_fit():
    figure = style.new_figure(4, 3)
    style.caption(figure, "word " * 60)
    figure.draw_without_rendering()
    assert figure.texts[0].get_window_extent().x1 <= figure.bbox.x1


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "f.png").write_bytes(b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(InputError, match="disk full"):
        style.save(style.new_figure(4, 3), tmp_path, "f", [{"a": 1}], {})
    assert [path.name for path in tmp_path.iterdir()] == ["f.png"]
    assert (tmp_path / "f.png").read_bytes() == b"old"


def test_table_of_seeds():
    """Lanes in any order; what has no bound is left out."""
    x = np.asarray([2.0, 1.0, np.inf, 1.0, 2.0])
    seed = np.asarray([1, 2, 1, 1, 2])
    values, ys = table(x, seed, np.asarray([21.0, 12.0, 0.0, 11.0, 22.0]))
    assert values.tolist() == [1, 2]
    assert ys.tolist() == [[11, 12], [21, 22]]


def test_the_phase_diagram_is_where_by_hand(tmp_path):
    mdp = phase.task(1, 2)
    assert mdp.num_states == 2 * phase.STATES
    said = []
    paths = phase.make(tmp_path, budget="smoke", seeds=2, say=said.append)
    assert {path.suffix for path in paths} == {".png", ".pdf", ".csv", ".json"}
    with (tmp_path / "phase.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 2 * 2 * 2 * len(phase.OBJECTIVES)  # bounds, distractors, seeds
    for row in table:
        worst, best, reached = (
            float(row[name]) for name in ("uniform_return", "optimal_return", "expected_return")
        )
        assert worst < best
        assert reached <= best + 1e-9
        assert float(row["score"]) == pytest.approx((reached - worst) / (best - worst))
    # the norm by NumPy: centred logarithms of probabilities, and the rewards
    logits = np.log(np.asarray(mdp.transition, float))
    logits -= logits.mean(axis=-1, keepdims=True)
    norm = np.sqrt(np.sum(logits**2) + np.sum(np.asarray(mdp.reward, float) ** 2))
    mine = [r for r in table if (r["distractors"], r["seed"]) == ("2", "1")]
    assert float(mine[0]["true_norm"]) == pytest.approx(norm, rel=1e-4)
    with pytest.raises(InputError, match="budget must be"):
        phase.make(tmp_path, budget="quick")
