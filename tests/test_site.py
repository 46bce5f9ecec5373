"""The site: its reference names everything that is public, its code runs and prints what it shows.

Blocks of a page run in order, `python` in one namespace, `bash` in the same folder, which is new
and empty. A `text` block is what the block before it prints; in what a command prints, numbers may
differ. Training is shortened (`SHORT`). `<!-- skip: why -->` before a block: it can't run here, and
only the options of its commands are checked.
"""

import dataclasses
import importlib.util
import inspect
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import jax
import markdown_it
import pandas as pd
import pytest

import omd
from omd import catalogue, cli, parts
from omd.config import SETTINGS
from omd.runs import folder as run_folder

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHORT = {
    "train": [
        "--steps",
        240,
        "--random-steps",
        80,  # up to an evaluation, so that there is one program that learns
        "--batch-size",
        16,
        "--evaluate-every",
        80,
        "--evaluate-episodes",
        2,
        "--evaluate-max-steps",
        50,
    ],
}
SHORT["sweep"] = SHORT["train"]
SHORT["figure"] = ["--budget", "smoke"]
QUICK = {
    "MPLBACKEND": "Agg",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # programs of commands run for milliseconds
}
OPEN_TO_NUMBERS = ("results", "performance")
"""Parts of the site that may hold as many numbers as they like."""


def site():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generated():
    return site().pages()


@pytest.fixture(scope="module")
def programs():
    """Those of all pages by their settings."""
    return {}


@pytest.fixture
def kept_programs(monkeypatch, programs):
    """Runs of the same settings in environments that are written in JAX, which have no state of
    their own, share one program: it compiles once."""
    make = run_folder.program_of

    def program_of(config, lanes=None):
        made = make(config, lanes)
        return made if made.env.on_host else programs.setdefault((made.config, lanes), made)

    monkeypatch.setattr(run_folder, "program_of", program_of)


@pytest.fixture
def short_training(monkeypatch):
    """In `python` blocks."""
    words = zip(SHORT["train"][::2], SHORT["train"][1::2], strict=True)
    short = {name.removeprefix("--").replace("-", "_"): value for name, value in words}
    train, make = omd.train, omd.make_train

    def shortened(config=None, **options):
        if isinstance(config, omd.Config):
            config = dataclasses.replace(config, **short)
        elif config is not None:
            options |= short
        return train(config, **options)

    monkeypatch.setattr(omd, "train", shortened)
    monkeypatch.setattr(
        omd, "make_train", lambda config: make(dataclasses.replace(config, **short))
    )


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def blocks(page):
    """(language, code, output or None, reason to skip or None) of each fenced block."""
    found, skip = [], None
    for token in markdown_it.MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "html_block":
            reason = re.match(r"<!-- skip: (.*) -->", token.content)
            skip = reason[1] if reason else None
        if token.type != "fence":
            continue
        language = token.info.split()[0] if token.info else ""
        if language == "text" and found:
            found[-1] = (*found[-1][:2], token.content, found[-1][3])
        elif language in ("python", "bash", "toml"):
            found.append((language, token.content, None, skip))
        skip = None
    return found


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=name_of)
def test_code_of_a_page_runs_and_prints_what_it_shows(
    page, tmp_path, short_training, kept_programs, monkeypatch, capsys
):
    execute(page, tmp_path, monkeypatch, capsys)
    if name_of(page) == "docs/reference/files.md":
        check_files(page, tmp_path)


def execute(page, tmp_path, monkeypatch, capsys):
    """Run the blocks of a page in a folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):  # `make test` has them: the page's make
        monkeypatch.delenv(name, raising=False)  # would take itself for one that it calls
    (tmp_path / "docs" / "images").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    if "results/" in page.read_text(encoding="utf-8"):
        shutil.copytree(ROOT / "results", tmp_path / "results")
    command = tmp_path / ".venv" / "bin" / "omd"  # where the Makefile has it
    command.parent.mkdir(parents=True)
    command.write_text(f"#!{sys.executable}\n{SHIM}")
    command.chmod(0o755)
    (tmp_path / ".venv" / ".installed").touch()
    monkeypatch.setenv("PATH", str(command.parent), prepend=os.pathsep)
    names = {"__name__": "page"}
    with jax.enable_x64(False):
        for language, code, shown, skip in blocks(page):
            file = re.match(r"# (\w+\.(?:py|toml))\b", code)
            if file:  # a block that begins with a file's name is that file
                (tmp_path / file[1]).write_text(code)
            if language == "bash":
                check_options(code)
            if skip or language == "toml":
                continue
            if language == "python":
                exec(compile(code, name_of(page), "exec"), names)
                printed = capsys.readouterr().out
                assert shown is None or printed == shown
            elif ours := commands(code):
                for words in ours:
                    run(words, monkeypatch)
                printed = capsys.readouterr().out
                assert shown is None or shape(printed) == shape(shown)
            else:
                done = subprocess.run(
                    ["bash", "-euo", "pipefail", "-c", code],
                    capture_output=True,
                    text=True,
                    check=False,
                    stdin=subprocess.DEVNULL,
                )
                assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"
                assert shown is None or shape(done.stdout) == shape(shown)


def commands(code):
    """The words of each command of a block where all are ours, without anything of the shell, or
    what `make` would run: those run in this process, whose libraries are there. Else nothing."""
    found = []
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["make"]:
            makes = subprocess.run(["make", "-n", *words[1:]], capture_output=True, check=True)
            found += [["echo", *made.split()] for made in makes.stdout.decode().splitlines()]
        elif words:
            found.append(words)
    known = ("omd", ".venv/bin/omd")
    plain = all(
        (words[1] if words[0] == "echo" else words[0]) in known and not SHELL & set("".join(words))
        for words in found
    )
    return found if plain else []


def run(words, monkeypatch):
    """One of our commands, which must end well; `make` shows it first."""
    if words[0] == "echo":
        words = words[1:]
        print(*words)
    monkeypatch.setattr(sys, "argv", ["omd", *shortened(words[1:])])
    code = 0
    try:
        cli.main()
    except SystemExit as end:
        code = end.code
    assert not code, words


SHELL = set("|&;<>$`*?~")


def shortened(words):
    """The command with less training: `SHORT` in place of what a reader is told to give."""
    words = list(words)
    begun = "--resume" in words or (words[:1] == ["sweep"] and os.path.isdir(words[1]))
    if words and words[0] in SHORT and not begun:
        given = [str(value) for value in SHORT[words[0]]]
        for name, value in zip(given[::2], given[1::2], strict=True):
            if name in words and words[0] == "train":
                words[words.index(name) + 1] = value
            elif name not in words:
                words += [name, value]
    return words


def check_files(page, tmp_path):
    """Raises where the folders of a run and a sweep aren't what the page's tables say."""
    for section in re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
        title, _, text = section.partition("\n")
        folder = {"A run": "runs/mine", "A sweep": "sweeps/mine"}.get(title)
        if folder is None:
            continue
        text, _, columns = text.partition("### Columns")
        rows = dict(re.findall(r"^\| `([^`]+)` \| (.*) \|$", text, flags=re.MULTILINE))
        there = {p.name for p in (tmp_path / folder).iterdir() if not p.name.startswith(".")}
        named = {name.partition("/")[0] for name in rows}
        usual = {n.partition("/")[0] for n, what in rows.items() if not OCCASIONAL.search(what)}
        assert usual <= there <= named, folder
        if columns:
            names = re.findall(r"^\| (`[^|]+) \|", columns, flags=re.MULTILINE)
            told = [word for name in names for word in re.findall(r"`(\w+)`", name)]
            frame = pd.read_parquet(tmp_path / folder / "metrics.parquet")
            assert sorted(told) == sorted(frame.columns)


OCCASIONAL = re.compile("only where|written by `omd watch`")


SHIM = f"""
import os
import sys
from omd import cli
SHORT = {SHORT!r}
{inspect.getsource(shortened)}
sys.argv[1:] = shortened(sys.argv[1:])
cli.main()
"""


def shape(text):
    """What a command printed, but for its numbers and how wide they made its columns."""
    text = re.sub(r"-?\d[\d.,]*(e[+-]?\d+)?", "0", text)
    return [re.sub(r"[\s━─┄]+", " ", line).strip() for line in text.splitlines() if line.strip()]


def check_options(code):
    """Raises for a command of ours, an option of it or a target of make that doesn't exist."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["make"]:
            assert re.search(rf"^{words[1]}:", makefile, flags=re.MULTILINE), line
        if words[:1] == ["omd"] and not {"--help", "--version"} & set(words):
            command = cli.program.commands[words[1]]
            context = command.make_context(words[1], [], resilient_parsing=True)
            command.make_parser(context).parse_args(words[2:])


def test_every_public_name_is_in_the_reference(generated):
    rooms = site().ROOMS
    for room in rooms:
        module = importlib.import_module(room)
        text = generated[f"reference/{room}.md"]
        for name in module.__all__:
            entry = f"::: {room}.{name}\n" in text or f"## {name}\n" in text
            assert entry, f"{room}.{name}"
    # every module of the package that names what is public has a page, or is shown by another
    shown = {f"{r}.{n}" for r in rooms for n in importlib.import_module(r).__all__}
    for path in (ROOT / "src" / "omd").rglob("*.py"):
        if "__all__" in path.read_text(encoding="utf-8") and path.name == "__init__.py":
            module = ".".join(path.relative_to(ROOT / "src").parent.parts)
            assert module in rooms or module in shown, module


def test_every_command_and_option_is_in_the_reference(generated):
    text = generated["reference/command-line.md"]
    parts_of = re.split(r"^## omd ", text, flags=re.MULTILINE)
    sections = {part.split("\n", 1)[0]: part for part in parts_of[1:]}
    assert set(sections) == set(cli.program.commands)
    for name, command in cli.program.commands.items():
        for one in command.params:
            if one.param_type_name == "option":
                assert f"| `{one.opts[0]}" in sections[name]


def test_every_setting_and_every_part_is_in_the_reference(generated):
    text = generated["reference/settings.md"]
    for name, one in SETTINGS.items():
        (row,) = re.findall(rf"^\| `{name}` \|.*$", text, flags=re.MULTILINE)
        assert one.metadata["help"].replace("|", "\\|") in row
    text = generated["reference/parts.md"]
    for kind in catalogue.BASES:
        for entry in catalogue.entries(kind).values():
            assert f"### {entry.name}\n" in text
            for one in parts.settings_of(parts.named(kind, entry.where)):
                assert f"| `{one.name}` |" in text
    assert "| `weight` | `1` | number in [0, ∞) |" not in text  # no part of the tests


def test_pages_for_people_are_short_and_hold_few_numbers():
    """Numbers are for the results; words are for a reader with an hour."""
    words = 0
    for page in sorted((ROOT / "docs").rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        words += len(text.split())
        prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        prose = re.sub(r"`[^`]*`|\]\([^)]*\)|https?://\S+", "", prose)
        numbers = re.findall(r"(?<![\w(])\d[\d.,]*", prose)
        if page.relative_to(ROOT / "docs").parts[0].removesuffix(".md") not in OPEN_TO_NUMBERS:
            assert len(numbers) <= 40, f"{name_of(page)} holds {len(numbers)} numbers"
    assert words < 15_000
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.count("\n") < 120


def test_links_of_pages_outside_the_site_lead_somewhere():
    """Those of the site are checked when it is built."""
    for page in (*ROOT.glob("*.md"), *(ROOT / "results").rglob("*.md")):
        prose = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", prose):
            assert link.startswith("https://") or (page.parent / link).exists(), (page, link)
