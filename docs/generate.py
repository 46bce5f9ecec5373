"""What the site has beside the pages in this folder: the reference, generated, and the pictures
under `results/`. MkDocs calls the functions `on_…`."""

from __future__ import annotations

import importlib
import inspect
import math
import pathlib
import re
from typing import Any

import click

from omd import catalogue, cli, parts
from omd.config import GROUPS, SETTINGS, defaults

ROOT = pathlib.Path(__file__).parents[1]
ROOMS = (
    "omd",
    "omd.callbacks",
    "omd.implicit",
    "omd.tabular",
    "omd.tabular.design",
    "omd.tabular.estimation",
    "omd.agents",
    "omd.envs",
    "omd.envs.host",
)
"""Modules whose `__all__` is public."""
PICTURES = ("*.png", "*.gif")


def on_config(config: Any) -> Any:
    """Leaves out of the navigation what isn't written yet."""
    absent = {"Performance": "performance.md"}
    if not (ROOT / "docs" / "performance.md").exists():
        config["nav"] = [item for item in config["nav"] if item != absent]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds the generated pages, and the pictures that pages show from `results/`."""
    from mkdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    for pattern in PICTURES:
        for path in sorted((ROOT / "results").rglob(pattern)):
            place = "stored/" + path.relative_to(ROOT / "results").as_posix()
            files.append(File.generated(config, place, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Pictures under `results/` are written as a reader of the repository finds them."""
    up = "../" * page.file.src_uri.count("/")
    return re.sub(r"\]\((?:\.\./)+results/([^)]*\.(?:png|gif))\)", rf"]({up}stored/\1)", markdown)


def pages() -> dict[str, str]:
    """The generated pages by their place in the site."""
    found = {f"reference/{room}.md": room_page(room) for room in ROOMS}
    found["reference/command-line.md"] = commands_page()
    found["reference/settings.md"] = settings_page()
    found["reference/parts.md"] = parts_page()
    return found


def commands_page() -> str:
    """Every command with its options, under the headings of its help."""
    lines = ["# Command line", "", *_help(cli.program.help)]
    for names in cli.SECTIONS.values():
        for name in names:
            command = cli.program.commands[name]
            with click.Context(command, info_name=f"omd {name}") as context:
                usage = command.get_usage(context).removeprefix("Usage: ")
                lines += [f"## omd {name}", "", *_help(command.help), "```text", usage, "```", ""]
                groups: dict[str, list[str]] = {}
                for one in command.get_params(context):
                    record = one.get_help_record(context)
                    if one.param_type_name == "option" and record is not None:
                        words, text = (_escaped(cell) for cell in record)
                        rows = groups.setdefault(getattr(one, "group", "") or "output", [])
                        rows.append(f"| `{words}` | {text} |")
                for group in [g for g in (*GROUPS, "output") if g in groups]:
                    head = group[0].upper() + group[1:] if len(groups) > 1 else "Option"
                    lines += [f"| {head} | |", "|---|---|", *groups[group], ""]
                if name == "figure":
                    rows = [
                        f"| `{one}` | {_escaped(text)} |" for one, text in cli.figure_rows(command)
                    ]
                    lines += ["| Figure | |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def _help(text: str | None) -> list[str]:
    """Help as Markdown: what click keeps as it is written becomes a block."""
    lines: list[str] = []
    for paragraph in inspect.cleandoc(text or "").split("\n\n"):
        fixed = paragraph.startswith("\b\n")
        lines += ["```text", paragraph[2:], "```", ""] if fixed else [paragraph, ""]
    return lines


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def room_page(room: str) -> str:
    """Every public name of a module, each with its docstring."""
    module = importlib.import_module(room)
    lines = [f"# {room}", "", inspect.getdoc(module) or "", ""]
    for name in sorted(module.__all__, key=str.lower):
        path = f"{room}.{name}"
        if path in ROOMS:
            lines += [f"## {name}", "", f"A module: [its page]({path}.md).", ""]
        elif inspect.ismodule(value := getattr(module, name)):
            lines += [f"## {name}", "", inspect.getdoc(value) or "", ""]
            own = {k: v for k, v in vars(value).items() if not k.startswith("_")}
            for inner, thing in own.items():
                if getattr(thing, "__module__", None) == value.__name__:
                    lines += [f"::: {value.__name__}.{inner}", "    options:"]
                    lines += ["      heading_level: 3", ""]
        else:
            lines += [f"::: {path}", ""]
    return "\n".join(lines)


def settings_page() -> str:
    """Every setting of a run."""
    lines = [
        "# Settings of a run",
        "",
        "Each is a field of [`omd.Config`][omd.Config], an option of `omd train` and `omd sweep`, "
        "and a key of a sweep's file. `inner_steps` is written `--inner-steps` on the command "
        "line. Where two defaults stand, the learner decides which one holds; "
        "`omd train ENV --help` shows the one for an environment.",
        "",
    ]
    for group in GROUPS:
        members = [one for one in SETTINGS.values() if one.metadata.get("group") == group]
        lines += [f"## {group[0].upper()}{group[1:]}", "", *table(members), ""]
    return "\n".join(lines)


def parts_page() -> str:
    """Every part that ships, with its settings."""
    lines = [
        "# Parts",
        "",
        "What a run is put together from. Write `name`, `name:key=value,key=value`, or "
        "`package.module:Class:key=value` for a part of your own; in Python, an instance.",
        "",
    ]
    for kind, base in catalogue.BASES.items():
        options = [f"`--{n}`" for n, one in SETTINGS.items() if one.metadata.get("part") == kind]
        words = f"Option{'s' * (len(options) > 1)} {' and '.join(options)}".replace("_", "-")
        lines += [f"## {kind}", "", f"{words}. Base class: `{base.replace(':', '.')}`."]
        for entry in catalogue.entries(kind).values():
            members = parts.settings_of(parts.named(kind, entry.where))
            lines += [
                "",
                f"### {entry.name}",
                "",
                f"{entry.purpose[0].upper()}{entry.purpose[1:]}.",
            ]
            for name, words in (("Needs", entry.needs), ("From", entry.source)):
                lines += ["", f"{name}: {words}."] if words else []
            lines += ["", *(table(members) if members else ["It has no settings."])]
        lines.append("")
    return "\n".join(lines)


def table(members: Any) -> list[str]:
    """Settings with default, range and meaning."""
    rows = ["| setting | default | range | meaning |", "|---|---|---|---|"]
    for one in members:
        cells = [f"`{one.name}`", default_of(one), range_of(one), one.metadata.get("help", "")]
        rows.append("| " + " | ".join(map(_escaped, cells)) + " |")
    return rows


def default_of(one: parts.Setting) -> str:
    """The default in words."""
    if one.metadata.get("by_learner"):
        return defaults(one)
    if one.default is None:
        return "none"
    if isinstance(one.default, tuple) and not one.default:
        return "nothing"
    shown = one.default
    if isinstance(shown, float) and shown and not 1e-3 <= abs(shown) < 1e4:
        shown = f"{shown:g}".replace("e-0", "e-")
    return f"`{shown}`"


def range_of(one: parts.Setting) -> str:
    """What may be given: choices, names of parts, or limits."""
    if kind := one.metadata.get("part"):
        automatic = ["auto"] if one.default == "auto" else []
        words = [*automatic, *catalogue.names(kind)]
        return ", ".join(f"`{w}`" for w in words) + ", or your own"
    if one.choices:
        return ", ".join(f"`{c}`" for c in one.choices)
    if one.type in ("number", "whole number", "widths"):
        kind = "whole number, or one a layer," if one.type == "widths" else one.type
        low = one.metadata.get("low", -math.inf)
        high = one.metadata.get("high", math.inf)
        left = "(" if one.metadata.get("open_low") or math.isinf(low) else "["
        right = ")" if one.metadata.get("open_high") or math.isinf(high) else "]"
        if math.isinf(low) and math.isinf(high):
            return kind
        ends = (f"{low:g}".replace("inf", "∞"), f"{high:g}".replace("inf", "∞"))
        return f"{kind} in {left}{ends[0]}, {ends[1]}{right}".replace("-", "−")
    return "" if one.type == "value" else one.type
