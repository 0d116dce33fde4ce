"""Messages for a mistyped command: escape control characters and suggest the intended option."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from typer.core import TyperCommand

from condinst.cli.terminal.elsewhere import ACCEPTED, ACCEPTED_SETTINGS, ADVICE
from condinst.cli.terminal.say import say
from condinst.errors import UsageError, one_line

EXAMPLES = {  # command: its arguments in the example that condinst shows if an argument is missing
    "predict": "photo.jpg --model nuclei",
    "info": "nuclei",
    "convert": "model.pth my_model",
    "export": "--model nuclei --out nuclei_onnx",
    "data check": "my_data",
    "data convert": "my_data my_yolo --format yolo",
    "data split": "my_data my_split --val 0.2",
    "val": "--data my_data --model runs/my_model",
    "train": "--data my_data",
}
ALIKE = 0.75  # of difflib's ratio: --colour and --color, not --colour and --out


class Verb(TyperCommand):
    """A command that also accepts option names of other programs. For a missing argument it prints an example.

    The help joins the lines of each paragraph, so that the terminal's width breaks them.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.help = "\n\n".join(" ".join(part.split()) for part in (self.help or "").split("\n\n"))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = {name for param in self.params for name in (*param.opts, *param.secondary_opts)}
        if any(param.name == "settings" for param in self.params):
            args = _settings_as_meant(args, {name: key for name, key in ACCEPTED_SETTINGS.items() if name not in own})
        meant = {name: words for name, words in ACCEPTED.items() if name not in own and words[0] in own}
        return super().parse_args(ctx, [word for given in args for word in _as_meant(given, meant)])


def _settings_as_meant(args: list[str], meant: dict[str, str]) -> list[str]:
    """`--epochs 5` and `--epochs=5` → `train.epochs=5`, with a note for each; other arguments stay the same."""
    words: list[str] = []
    rest = iter(args)
    for given in rest:
        name, equals, value = given.partition("=")
        if name not in meant:
            words.append(given)
            continue
        value = value if equals else next(rest, "")
        if not value or value.startswith("--"):
            raise UsageError(f"{name} needs a value; write {meant[name]}=VALUE or {name} VALUE")
        words.append(f"{meant[name]}={value}")
        say(f"note: {name} {value} means {words[-1]}", err=True)
    return words


def _as_meant(given: str, meant: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """`--imgsz=640` → `--size=640`; other arguments stay the same."""
    name, equals, value = given.partition("=")
    words = meant.get(name)
    if words is None:
        return (given,)
    return (*words[:-1], f"{words[-1]}={value}") if equals and len(words) == 1 else words


@contextmanager
def plain_usage_errors() -> Iterator[None]:
    """Escape control characters in typer's usage errors, and suggest only options with a similar name.

    Depending on typer's version, the error classes come from click or from typer. This function uses only attributes
    that both have.
    """
    try:
        yield
    except Exception as error:
        if not (hasattr(error, "format_message") and hasattr(error, "message")):
            raise
        example = _example(error)
        if example:
            raise UsageError(example) from None
        _mend(error)
        raise


def _example(error: Any) -> str:
    """Return the message for a missing argument or option; an empty text for another error."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ != "MissingParameter" or context is None:
        return ""
    command = _command(context)
    if command not in EXAMPLES:
        return ""
    return f"{one_line(error.format_message()).rstrip('.')}; for example: condinst {command} {EXAMPLES[command]}"


def _command(context: Any) -> str:
    """Return the name of the command with its group, for example `data check`."""
    names = []
    while context.parent is not None:
        names.append(context.info_name)
        context = context.parent
    return " ".join(reversed(names))


def _mend(error: Any) -> None:
    message = one_line(str(error.message)).removeprefix("Value error, ")  # typer's words for a wrong choice
    option = getattr(error, "option_name", None)
    if getattr(error, "possibilities", None) is not None or option:
        context = getattr(error, "ctx", None)
        known = [name for param in context.command.params for name in param.opts] if context else []
        meant = ADVICE.get(context.command.name or "", {}).get(str(option)) if context else None
        alike = [meant] if meant else get_close_matches(str(option), known, 1, ALIKE)
        if hasattr(error, "possibilities"):
            error.possibilities = None
            message = message.rstrip(".") + (f"; {_hint(alike[0])}" if alike else "")
    error.message = message


def _hint(meant: str) -> str:
    """Return a question for an option or a setting, and a statement for other advice."""
    return f"did you mean {meant}?" if meant.startswith("--") or " " not in meant else meant
