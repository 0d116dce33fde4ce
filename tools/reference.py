"""Write the reference pages from the code: command line, settings, Python names, cards of the shipped models.

python -m tools.reference            # writes docs/reference/{cli,settings,python}.md and docs/reference/model-*.md
python -m tools.reference --check    # exit code 1 if a page is out of date
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel

import condinst
from condinst.cli.main import app
from condinst.config import Config
from condinst.settings.kinds import Section
from condinst.weights.names import ZOO, shipped_names

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference"
NOTE = "<!-- Written by python -m tools.reference. Change the code, then run it. -->"
NOT_RUN = "<!-- not run: needs pictures of the reader or a full data set -->"
MOST = 2**32 - 1  # a bound that only keeps slips away
PERSONAL = "--help"  # the same for every command


def main(check: bool = False) -> int:
    """Write the pages, or only compare them; returns the exit code."""
    stale = []
    for name, text in pages().items():
        path = REFERENCE / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path.relative_to(ROOT).as_posix())
        if not check:
            path.write_text(text, encoding="utf-8")
    if check and stale:
        print(f"{', '.join(stale)}: out of date; run python -m tools.reference", file=sys.stderr)
    return int(check and bool(stale))


def pages() -> dict[str, str]:
    """The text of each page by its file name."""
    cards = {f"model-{name}.md": model_card(name) for name in shipped_names()}
    return {"cli.md": command_line(), "settings.md": settings(), "python.md": python(), **cards}


def model_card(name: str) -> str:
    """The card of a shipped model, with links that work on the site. The commands need data of the reader."""
    card = (ZOO / name / "README.md").read_text(encoding="utf-8").replace("../../../../docs/", "../")
    title, rest = card.split("\n", 1)
    return f"{title}\n\n{NOTE}\n{rest}".replace("\n```sh\n", f"\n{NOT_RUN}\n```sh\n")


def command_line() -> str:
    """Every command with its arguments and options, read from the program itself."""
    root = typer.main.get_command(app)
    parts = [
        "# Command line",
        NOTE,
        "Each section shows one command. `condinst COMMAND --help` prints the same text in a terminal.",
        "The [exit codes](exit-codes.md) have a page of their own.",
        *(part for path, command in commands(root, "condinst") for part in section(path, command)),
    ]
    return "\n\n".join(parts) + "\n"


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """All commands below `command`, with what a user types for each."""
    children = getattr(command, "commands", {})
    if not children:
        yield path, command
    for name, child in children.items():
        yield from commands(child, f"{path} {name}")


def section(path: str, command: Any) -> list[str]:
    """The Markdown of one command."""
    shown = [one for one in command.params if not getattr(one, "hidden", False) and PERSONAL not in one.opts]
    arguments = [one for one in shown if one.param_type_name == "argument"]
    options = [one for one in shown if one.param_type_name == "option"]
    usage = " ".join([path, *(placeholder(one) for one in arguments), *(["[OPTIONS]"] if options else [])])
    parts = [f"## {path}", f"```text\n{usage}\n```", escape(inspect.cleandoc(command.help or ""))]
    for title, rows in (("argument", arguments), ("option", options)):
        if rows:
            lines = [f"| {title} | meaning | default |", "| --- | --- | --- |", *(row(one) for one in rows)]
            parts.append("\n".join(lines))
    return parts


def placeholder(argument: Any) -> str:
    """How an argument stands in the usage line."""
    name = argument.metavar or argument.name.upper()
    return name if argument.required else f"[{name}]"


def row(parameter: Any) -> str:
    """One line of a table."""
    if parameter.param_type_name == "argument":
        name = f"`{placeholder(parameter)}`"
    else:
        value = "" if parameter.is_flag else f" {parameter.metavar or choices(parameter.type_descriptor.annotation)}"
        name = ", ".join(f"`{option}{value}`" for option in (*parameter.opts, *parameter.secondary_opts))
    default = "required" if parameter.required else shown_default(parameter)
    return f"| {name.replace('|', chr(92) + '|')} | {cell(parameter.help or '')} | {default} |"


def choices(kind: Any) -> str:
    """The values an option takes, or a word for its type."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "|".join(str(one.value) for one in kind)
    return {Path: "PATH", str: "TEXT"}.get(kind, "NUMBER")


def shown_default(parameter: Any) -> str:
    """The default, where it is a plain value."""
    value = parameter.default
    plain = isinstance(value, (str, int, float, Path)) and not isinstance(value, bool)
    return f"`{value}`" if plain and value != "" else ""


def settings() -> str:
    """Every setting with its default and the comment above it."""
    parts = [
        "# Settings",
        NOTE,
        "A setting is written `section.key=value` on the command line and nested in a recipe:",
        "```text\ncondinst train --data my_data train.iterations=3000 input.shorter=512\n```",
        "Values are YAML. An unknown key or a value out of range ends the command before it reads any data.",
    ]
    for path, model in sections(Config, ""):
        comments = setting_comments(inspect.getsource(model))
        rows = [
            setting_row(f"{path}{name}", field, comments.get(name, ""))
            for name, field in model.model_fields.items()
            if not is_section(field.default)
        ]
        if rows:
            title = path.rstrip(".") or "about"
            doc = escape(" ".join(inspect.cleandoc(model.__doc__ or "").split()))
            parts += [
                f"## {title}",
                doc,
                "\n".join(["| setting | default | allowed | meaning |", "| --- | --- | --- | --- |", *rows]),
            ]
    return "\n\n".join(parts) + "\n"


def setting_row(key: str, field: Any, comment: str) -> str:
    return f"| `{key}` | {value_of(field)} | {allowed(field)} | {cell(comment)} |"


def sections(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """A group of settings and the groups inside it, each with the start of its keys."""
    yield path, model
    for name, field in model.model_fields.items():
        if is_section(field.default):
            yield from sections(type(field.default), f"{path}{name}.")


def is_section(value: object) -> bool:
    return isinstance(value, Section)


def value_of(field: Any) -> str:
    """A default as a user writes it."""
    value = field.default
    text = {True: "true", False: "false"}.get(value) if isinstance(value, bool) else None
    if isinstance(value, tuple):
        text = str([list(each) if isinstance(each, tuple) else each for each in value]).replace("'", "")
    if isinstance(value, float):
        text = f"{value:g}"
    return f"`{str(value) if text is None else text}`"


def allowed(field: Any) -> str:
    """The choices of a setting, or the bounds of its number."""
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(field.annotation))
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "multiple_of": "a multiple of"}
    bounds = [(name, getattr(one, name)) for one in field.metadata for name in signs if hasattr(one, name)]
    return ", ".join(f"{signs[name]} {bound:g}" if bound < MOST else "" for name, bound in bounds).strip(", ")


def setting_comments(source: str) -> dict[str, str]:
    """The comment on the line of each setting of a class, or above the line, by name. source: the code of the class."""
    lines = source.splitlines()
    (group,) = ast.parse(source).body
    assert isinstance(group, ast.ClassDef)
    return {
        node.target.id: comment_of(lines, node.lineno - 1, (node.end_lineno or 1) - 1)
        for node in group.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


def comment_of(lines: list[str], first: int, last: int) -> str:
    """What stands behind the `#` of a statement's lines; else the comment lines right above it."""
    beside = [line.partition("  # ")[2] for line in lines[first : last + 1]]
    if any(beside):
        return " ".join(filter(None, beside))
    above: list[str] = []
    while first - len(above) > 0 and lines[first - len(above) - 1].strip().startswith("# "):
        above.insert(0, lines[first - len(above) - 1].strip()[2:])
    return " ".join(above)


def python() -> str:
    """The public names of the package; mkdocstrings fills in their docstrings when the site is built."""
    homes = {name: getattr(condinst, name) for name in condinst.__all__}
    parts = [
        "# Python",
        NOTE,
        "These names come from `import condinst`. The import loads neither torch nor timm; each name loads when used.",
    ]
    parts += [
        "\n".join(["| name | what it is |", "| --- | --- |", *(name_row(name, homes[name]) for name in sorted(homes))])
    ]
    for name in sorted(homes):
        module = getattr(homes[name], "__module__", "condinst")
        parts += [f"## {name}", f"::: {module}.{getattr(homes[name], '__qualname__', name)}"]
    return "\n\n".join(parts) + "\n"


def name_row(name: str, thing: object) -> str:
    first = (inspect.getdoc(thing) or "").split("\n\n")[0]
    return f"| [`{name}`](#{name.lower()}) | {cell(first)} |"


def cell(text: str) -> str:
    """One line, fit for a table."""
    return escape(" ".join(textwrap.dedent(text).split())).replace("|", "\\|")


def escape(text: str) -> str:
    """Angle brackets as they are, not as HTML; code in backticks stays."""
    parts = text.split("`")
    return "`".join(part if at % 2 else part.replace("<", "&lt;") for at, part in enumerate(parts))


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
