"""The `omd` command. No logic: it reads options, calls the library, prints what came out."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import pathlib
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import click

from omd import catalogue, memory
from omd.config import GROUPS, SETTINGS, Config, defaults, read
from omd.errors import DISTRIBUTION, InputError, Notice, in_a_line, out_of_memory


class _Option(click.Option):
    """An option that help shows under a heading."""

    def __init__(self, *names: Any, group: str = "", **options: Any) -> None:
        super().__init__(*names, **options)
        self.group = group


class _Command(click.Command):
    """A command whose help shows its options under headings.

    `omd train ENV --help` shows the defaults of the learner that ENV gets.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if any(word in ctx.help_option_names for word in args):
            plain = self.make_parser(ctx)
            plain.ignore_unknown_options = True
            ctx.meta["env"] = plain.parse_args(list(args))[0].get("env")
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        known = _defaults_in(ctx.meta.get("env"))
        rows: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
        for one in self.get_params(ctx):
            record = one.get_help_record(ctx) if one.param_type_name == "option" else None
            if record is not None:
                words, text = record
                if one.name in known:
                    text = f"{text.partition('  [default:')[0]}  [default: {known[one.name]}]"
                rows.setdefault(getattr(one, "group", "") or "output", []).append((words, text))
        for group, records in rows.items():
            if records:
                with formatter.section(group[0].upper() + group[1:]):
                    formatter.write_dl(records)


def _defaults_in(env: Any) -> dict[str, str]:
    """Defaults that the learner of an environment sets; none without one. Raises `InputError` for
    an environment that can't be made."""
    if not isinstance(env, str):
        return {}
    from omd.runs import run as runs

    values = runs.resolved(Config(env=env)).to_dict()
    return {
        name: str(values[name]) for name, one in SETTINGS.items() if one.metadata.get("by_learner")
    }


class _Group(click.Group):
    """The commands, under headings."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        limit = formatter.width - 6 - max(map(len, self.commands))
        for heading, names in SECTIONS.items():
            with formatter.section(heading):
                rows = [(n, self.commands[n].get_short_help_str(limit)) for n in names]
                formatter.write_dl(rows)


SECTIONS = {
    "Train and look": ("train", "evaluate", "watch", "report", "list"),
    "Many runs": ("sweep",),
    "The paper and its gradients": ("figure", "gradcheck"),
}
"""Headings of `omd --help`; a test holds that every command stands under one."""


@click.group(
    cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name=DISTRIBUTION, message="%(prog)s %(version)s")
def program() -> None:
    """World models trained for control instead of likelihood.

    \b
    omd train CartPole-v1                      train OMD, with a picture of the learning curve
    omd train CartPole-v1 --objective mle      the usual way, to compare
    omd report runs/CartPole-v1-omd-1          one page with all that came out
    omd train CartPole-v1 --help               all settings, with that environment's defaults
    """


_METAVARS = {"number": "N", "whole number": "N", "widths": "N[xN]"}


def _settings(*, multiple: bool = False):
    """One option for each setting, with its help and under its heading."""

    def decorate(command):
        for one in reversed(SETTINGS.values()):
            if one.name == "env":
                continue
            kind = one.metadata.get("part")
            known = [*one.choices, *(catalogue.names(kind) if kind else ())]
            choices = f" [{' | '.join(known)}]" if known else ""
            default = f"  [default: {defaults(one)}]" if defaults(one) else ""
            seeds = one.name == "seeds"
            command = click.option(
                f"--{one.name.replace('_', '-')}",
                one.name,
                cls=_Option,
                group=one.metadata.get("group"),
                multiple=multiple,
                metavar=_METAVARS.get(one.type, "PART" if kind else "N" if seeds else "NAME"),
                help=f"{one.metadata['help']}{choices}{default}",
            )(command)
        return command

    return decorate


@program.command(cls=_Command)
@click.argument("env", required=False)
@_settings()
@click.option("--name", help="Name of the run's folder.  [default: environment-objective-number]")
@click.option("--out", default="runs", show_default=True, help="Folder that holds the runs.")
@click.option("--resume", metavar="RUN", help="Go on with a run that was stopped.")
@click.option("--track", metavar="NAME", help="Also send metrics to tensorboard or wandb.")
@click.option("--quiet", is_flag=True, help="No progress.")
def train(
    env: str | None,
    name: str | None,
    out: str,
    resume: str | None,
    track: str | None,
    quiet: bool,
    **settings: str | None,
) -> None:
    """Train on the environment ENV, all seeds side by side."""
    given = {k: v for k, v in {"env": env, **settings}.items() if v is not None}
    if resume is not None:
        if name is not None:
            raise InputError("--name goes with a new run: leave it out with --resume")
        config = _resumed(pathlib.Path(resume), given)
    elif env is None:
        raise InputError("no environment: name one, such as CartPole-v1 (`omd list` shows all)")
    else:
        config = Config(**_read(given))
        memory.check(config)
    import omd
    from omd.reports import tables as report

    omd.use_cores(config)
    run = omd.train(config, out=out, name=name, resume=resume, track=track, progress=not quiet)
    report.show(run)
    if not run.finished:
        print(f"stopped at step {run.step}; go on with: omd train --resume {run.path}")
        sys.exit(130)


@program.command()
@click.argument("run")
@click.option("--episodes", default=10, show_default=True, help="Episodes of each seed.")
@click.option("--seed", default=0, show_default=True, help="Draws other episodes.")
def evaluate(run: str, episodes: int, seed: int) -> None:
    """Play fresh episodes with the policies of RUN."""
    import omd
    from omd.reports import tables as report

    report.show_evaluation(omd.load(run).evaluate(episodes, seed=seed), episodes)


@program.command(cls=_Command)
@click.argument("spec", required=False)
@_settings(multiple=True)
@click.option(
    "--env", cls=_Option, group=GROUPS[0], multiple=True, metavar="NAME", help="Environment id."
)
@click.option("--out", help="Folder of the sweep.  [default: sweeps/NAME]")
@click.option("--engine", default="local", show_default=True, help="local or ray.")
@click.option("--address", help="Of a running Ray cluster.  [default: one on this machine]")
@click.option("--workers", type=int, help="Groups at a time.  [default: one a core or GPU]")
@click.option("--group-size", type=int, help="Lanes of a group.  [default: as memory allows]")
@click.option("--dry-run", is_flag=True, help="Show groups, lanes, FLOPs, memory and time.")
@click.option("--quiet", is_flag=True, help="No progress.")
def sweep(
    spec: str | None,
    out: str | None,
    engine: Any,
    address: str | None,
    workers: int | None,
    group_size: int | None,
    dry_run: bool,
    quiet: bool,
    **settings: tuple[str, ...],
) -> None:
    """Run a grid of settings.

    SPEC is a shipped sweep, a TOML file, or the folder of a sweep.
    Settings replace those of SPEC, or make a sweep by themselves; several values (1,2,3, or the
    option repeated) are an axis of the grid. The same command goes on where it was stopped, and may
    run twice at a time on one folder.
    """
    from omd.reports import tables as report

    options = _axes(settings)
    if dry_run:
        report.show_plan(spec, options, workers, group_size)
        return
    import omd

    done = omd.sweep(
        spec,
        options=options,
        out=out,
        engine=engine,
        address=address,
        workers=workers,
        group_size=group_size,
        progress=not quiet,
    )
    sys.exit(report.show_sweep(done))


@program.command()
@click.argument("run")
@click.option("--out", metavar="FILE", help="A .gif or .mp4.  [default: policy.gif in RUN]")
@click.option("--seed", type=int, metavar="N", help="Which of the run's seeds.  [default: first]")
@click.option("--steps", type=int, metavar="N", help="Steps to show.  [default: 300 at most]")
@click.option("--quiet", is_flag=True, help="No progress.")
def watch(run: str, out: str | None, seed: int | None, steps: int | None, quiet: bool) -> None:
    """Draw a moving picture of RUN's policy; needs no display."""
    from omd.reports import film
    from omd.reports import tables as report

    print(film.watch(run, out, seed=seed, steps=steps, track=report.track(shown=not quiet)))


@program.command("list")
@click.argument("what", required=False, metavar="[environment|objective|learner|model|…|run]")
@click.argument("name", required=False)
@click.option("--out", default="runs", show_default=True, help="Folder that holds the runs.")
def list_(what: str | None, name: str | None, out: str) -> None:
    """Show what there is of a kind, or the settings of one part.

    \b
    omd list objective
    omd list objective vep
    omd list hypergradient mylab.solvers:Mine
    """
    from omd.reports import tables as report

    report.listing(what, name, pathlib.Path(out))


class _Figures(click.Command):
    """A command whose help shows each figure with the options that it takes."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        with formatter.section("Figures, and the options that each takes"):
            formatter.write_dl(figure_rows(self))


def figure_rows(command: click.Command) -> list[tuple[str, str]]:
    """Each figure with its purpose and its options."""
    from omd.figures import shipped

    flags = {one.name: one.opts[0] for one in command.params}
    rows = []
    for name in shipped.places():
        taken = [flags[option] for option in shipped.options(name) if option in flags]
        rows.append((name, f"{shipped.purpose(name)} ({', '.join(taken)})"))
    return rows


@program.command(cls=_Figures)
@click.argument("figures", metavar="FIGURE...", nargs=-1, required=True)
@click.option("--out", default="figures", show_default=True, help="Folder for the files.")
@click.option(
    "--budget", metavar="NAME", help="smoke, paper, or, for sweeps, quick.  [default: paper]"
)
@click.option("--projection", metavar="NAME", help="ball or reference.  [default: ball]")
@click.option("--seeds", type=int, metavar="N", help="Seeds of each point.  [default: 10]")
@click.option("--sweep", "sweeps", multiple=True, metavar="FOLDER", help="Sweeps to draw.")
@click.option("--engine", metavar="NAME", help="local or ray.  [default: local]")
@click.option("--workers", type=int, metavar="N", help="Groups at a time.")
@click.option("--run", "runs", multiple=True, metavar="FOLDER", help="Runs to draw.")
def figure(figures: tuple[str, ...], out: str, **given: Any) -> None:
    """Make figures of the paper, and some beyond it.

    Each is written as PNG, PDF, a CSV of its numbers and a JSON of its settings. Those that are
    drawn from sweeps take the folders given; without any, the sweeps of the budget run as far as
    they are missing, in sweeps/NAME.
    """
    from omd.figures import shipped
    from omd.runs import files

    asked = click.get_current_context().command.params
    flags = {one.name or "": f"{one.opts[0]} {one.metavar}" for one in asked}
    options = {name: value for name, value in given.items() if value not in (None, ())}
    makers = shipped.plan(figures, options, flags, lambda line: print(line, file=sys.stderr))
    files.check_writable(pathlib.Path(out))
    for make in makers:
        for path in make(pathlib.Path(out)):
            print(path)


@program.command("report")
@click.argument("folder")
@click.option("--out", metavar="FILE", help="The page.  [default: FOLDER/report.html]")
def report_(folder: str, out: str | None) -> None:
    """Write one HTML page of a run, a sweep, or a folder of figures.

    FOLDER is what `omd train`, `omd sweep` or `omd figure` wrote. The page holds its pictures, so
    that nothing else is needed to read it.
    """
    from omd.reports import page

    print(page.write(folder, out))


@program.command()
@click.argument("problem", required=False)
def gradcheck(problem: str | None) -> None:
    """Compare all hypergradients with finite differences.

    PROBLEM is a small bi-level problem with a known answer; without it, all of them run.
    """
    from omd.reports import tables as report

    report.gradcheck(problem)


def _read(given: dict[str, Any]) -> dict[str, Any]:
    """Values from the command line's text; `Config` checks and rejects the rest."""
    return {name: read(name, text) for name, text in given.items()}


def _axes(given: dict[str, tuple[str, ...]]) -> dict[str, list[Any]]:
    """Values of each setting that was given, parted by commas; one that is followed by key=value
    belongs to the part before it."""
    axes = {}
    for name, texts in given.items():
        pieces: list[str] = []
        for text in texts:
            first, *others = (piece.strip() for piece in text.split(","))
            pieces.append(first)
            for piece in others:
                more = "=" in piece.partition(":")[0]
                pieces[-1:] = [f"{pieces[-1]},{piece}"] if more else [pieces[-1], piece]
        if pieces:
            axes[name] = [read(name, piece) for piece in pieces]
    return axes


def _resumed(path: pathlib.Path, given: dict[str, Any]) -> Config:
    """The run's own settings with the given ones on top; the library rejects a difference."""
    from omd.runs.stored import read_settings

    return dataclasses.replace(read_settings(path), **_read(given))


def main() -> None:
    """Entry point: bad input is one sentence on stderr and exit code 2."""
    for stream in (sys.stdout, sys.stderr):  # Greek letters on a latin-1 terminal
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    warnings.formatwarning = _formatted
    try:
        # parts and environments of one's own stand in the folder where one works
        with contextlib.suppress(FileNotFoundError):  # it is gone
            sys.path += [] if os.getcwd() in sys.path else [os.getcwd()]
        with _ended_by_sigterm():
            program(standalone_mode=False)
            if sys.stdout is not None:  # closed by whoever started us
                sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
        sys.exit(2)
    except click.ClickException as error:
        sys.exit(_complain(error.format_message()))
    except InputError as error:
        sys.exit(_complain(str(error)))
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        _forget_output()
        sys.exit(141)
    except OSError as error:  # of a path that was given: too long, forbidden, a loop of links
        if error.filename is not None:
            words = f"{error.filename} can't be used ({error.strerror}): give another path"
        elif error.errno in FULL:
            words = f"the output can't be written ({error.strerror}): free space"
            _forget_output()
        else:
            raise
        sys.exit(_complain(words))
    except Exception as error:
        if "initialize backend" in (words := in_a_line(error)):
            words = f"JAX can't start on this machine ({words}): set JAX_PLATFORMS=cpu, or unset it"
        elif out_of_memory(error):
            words = (
                "memory is used up: give fewer seeds, distractors or hidden units, a smaller "
                "batch_size or replay_capacity, or stop what else runs on this machine"
            )
        else:
            raise
        sys.exit(_complain(words))


def _forget_output() -> None:
    """What is still to be printed goes nowhere, lest Python complain at its end."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""What the system says where no more can be written."""


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that files half written go. Training answers
    signals by itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _formatted(message: Any, category: type[Warning], *rest: Any, **options: Any) -> str:
    """A notice of ours as one line, anybody else's warning as it is."""
    if issubclass(category, Notice):
        return f"omd: {message}\n"
    return _PYTHONS(message, category, *rest, **options)


_PYTHONS = warnings.formatwarning


def _complain(sentence: str) -> int:
    print(f"omd: {InputError(sentence)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
