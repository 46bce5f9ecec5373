import os
import subprocess
import sys
import textwrap

import pytest

from omd import cli
from omd.config import GROUPS
from omd.errors import Notice


def omd(monkeypatch, capsys, *words):
    """Exit code, stdout and stderr of a command, run in this process."""
    monkeypatch.setattr(sys, "argv", ["omd", *map(str, words)])
    code = 0
    try:
        cli.main()
    except SystemExit as stop:
        code = stop.code or 0
    return code, *capsys.readouterr()


@pytest.fixture
def command(monkeypatch, capsys):
    return lambda *words: omd(monkeypatch, capsys, *words)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["train"], "no environment"),
        (["train", "CartPole"], "unknown environment 'CartPole'"),
        (["train", "CartPole-v1", "--objective", "mel"], "did you mean mle"),
        (["train", "CartPole-v1", "--tau", "x"], "tau is 'x': give a number"),
        (["train", "CartPole-v1", "--tau", "-1"], "tau is -1"),
        (["train", "CartPole-v1", "--steps", "1e9x"], "steps is '1e9x'"),
        (["train", "Pendulum-v1", "--learner", "soft-q"], "continuous actions"),
        (["train", "CartPole-v1", "--learner", "sac"], "discrete actions"),
        (["figure", "8"], "figure 8 and --run FOLDER go together"),
        (["train", "--resume", "nowhere"], "nowhere is no run"),
        (["train", "--resume", "nowhere", "--name", "x"], "--name goes with a new run"),
        (["train", "CartPole-v1", "--stepps", "3"], "--stepps"),
        (["evaluate", "nowhere"], "nowhere is no run"),
        (["figure", "9"], "unknown figure '9'"),
        (["figure", "6", "9"], "unknown figure '9'"),
        (["list", "objectivs"], "did you mean objective"),
        (["gradcheck", "rigde"], "did you mean ridge"),
        (["trian"], "trian"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_bad_input_is_one_sentence_and_exit_code_2(command, tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    code, out, err = command(*words)
    assert code == 2
    assert out == ""
    assert sentence in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_train_evaluate_list_and_resume(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = [
        "--steps",
        200,
        "--random-steps",
        50,
        "--batch-size",
        16,
        "--evaluate-every",
        100,
        "--evaluate-episodes",
        2,
        "--seeds",
        2,
    ]
    code, out, err = command("train", "CartPole-v1", *small, "--name", "small")
    assert code == 0
    assert "OMD on CartPole-v1" in out
    assert "picture: runs/small/learning-curve.png" in out
    assert "step 200 of 200" in err
    assert (tmp_path / "runs/small/learning-curve.png").read_bytes().startswith(b"\x89PNG")
    code, out, _ = command("evaluate", "runs/small", "--episodes", 3)
    assert code == 0
    assert "3 episodes of each seed" in out
    code, out, _ = command("list")
    assert code == 0
    assert "runs/small: omd on CartPole-v1, finished" in out
    assert "CartPole-v1" in out
    code, _, err = command("train", "CartPole-v1", "--name", "small")
    assert (code, err.count("\n")) == (2, 1)
    assert "a run 'small' exists" in err
    code, _, err = command("train", "--resume", "runs/small", "--tau", 0.5)
    assert code == 2
    assert "tau is 0.01 there, not 0.5" in err
    code, out, _ = command("train", "--resume", "runs/small")
    assert code == 0


def test_help_does_not_wait_for_jax():
    program = (
        "import sys; from omd import cli\n"
        "try: cli.program(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "assert 'jax' not in sys.modules and 'numpy' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    for option in ("--objective", "--inner-steps", "--hypergradient", "--resume", "--temperature"):
        assert option in done.stdout


def test_help_stands_under_headings_and_shows_the_learner_s_defaults(command):
    code, out, _ = command("--help")
    assert code == 0
    assert sorted(name for names in cli.SECTIONS.values() for name in names) == sorted(
        cli.program.commands
    )
    assert all(heading + ":" in out for heading in cli.SECTIONS)
    _, out, _ = command("train", "--help")
    lines = [line for line in out.splitlines() if line.endswith(":") and line[0].isalpha()]
    assert [line[:-1].lower() for line in lines] == [*(g.lower() for g in GROUPS), "output"]
    for env, steps in (("CartPole-v1", "200000"), ("Pendulum-v1", "1000000")):
        code, out, _ = command("train", env, "--help")
        assert code == 0
        assert f"[default: {steps}]" in " ".join(out.split())
    code, out, err = command("train", "CartPole", "--help")
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_help_on_a_terminal_without_greek_letters():
    each = """
        import sys
        from omd import cli
        for name in ("", *cli.program.commands, "list optimizer", "list learner sac"):
            sys.argv[1:] = name.split() if "list " in name else [*name.split(), "--help"]
            try:
                cli.main()
            except SystemExit as end:
                assert not end.code, name
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(each)],
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=True,
    )
    assert b"Temperature ? of softmax" in done.stdout
    assert not done.stderr


def test_a_failed_picture_is_one_line_and_names_are_no_markup(command, tmp_path, monkeypatch):
    from omd.figures import learning_curve

    def broken(*_):
        raise RuntimeError("no\nLaTeX [/b]")

    monkeypatch.setattr(learning_curve, "picture", broken)
    monkeypatch.setenv("MPLBACKEND", "module://not.there")
    out = tmp_path / "exp[lr=0.1]" / "a[" / "b]"
    settings = ["--steps", 40, "--random-steps", 20, "--batch-size", 8, "--hidden", 4]
    settings += ["--evaluate-every", 20, "--evaluate-episodes", 1, "--quiet"]
    with pytest.warns(Notice, match="no LaTeX") as noticed:
        code, printed, _ = command("train", "CartPole-v1", *settings, "--out", out)
    assert code == 0
    assert "return (last 10" in printed
    assert "\n" not in str(noticed[0].message)
    (run,) = out.iterdir()
    (out / "half").mkdir()
    (out / "half" / "config.json").write_text('{"version": 2, ')
    code, printed, _ = command("list", "runs", "--out", out)
    assert code == 0
    assert f"{run}: omd on CartPole-v1, finished" in printed
    assert f"{out / 'half'}: " in printed
