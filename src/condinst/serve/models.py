"""The models that the server offers, by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condinst.errors import UsageError, some
from condinst.predictor import Predictor
from condinst.serve.refusal import RequestError
from condinst.weights.fetch import digest
from condinst.weights.names import shipped_names

NAMED = re.compile(r"([\w.-]+)=(.+)", re.DOTALL)


@dataclass(frozen=True)
class Models:
    """The loaded models. The first one is the default.

    versions: a text for each model, which changes with its weights.
    """

    predictors: dict[str, Predictor]
    versions: dict[str, str]

    @property
    def default(self) -> str:
        """The name of the first model."""
        return next(iter(self.predictors))

    def choose(self, name: str | None) -> str:
        """The name of an offered model; the default for None. Raises RequestError (404) for another name."""
        if name is None or name in self.predictors:
            return name or self.default
        raise RequestError(404, f"no model '{name:.100}'; the models are {some(list(self.predictors))}")

    def describe(self) -> list[dict[str, Any]]:
        """Facts about each model, for a client."""
        return [
            {
                "name": name,
                "classes": list(predictor.config.model.classes),
                "default": name == self.default,
                "conf": predictor.conf,
                "mode": predictor.mode,
                "device": str(predictor.device),
            }
            for name, predictor in self.predictors.items()
        ]


def load_models(words: Sequence[str], **options: Any) -> Models:
    """Load the models of `--model`: any value that `Predictor` accepts, or NAME=VALUE to choose the name.

    options: further arguments of `Predictor`.
    Raises ModelError for a model that cannot be loaded, and UsageError for two models of one name.
    """
    named: dict[str, str] = {}
    for word in words:
        name, model = name_of(word)
        if name in named:
            raise UsageError(f"--model: two models are named '{name}'; name one of them: --model other={model}")
        named[name] = model
    predictors = {name: Predictor(model, **options) for name, model in named.items()}
    return Models(predictors, {name: version_of(name, predictor) for name, predictor in predictors.items()})


def version_of(name: str, predictor: Predictor) -> str:
    """The name with the first digits of the digest of the file; the name alone for published weights."""
    return name if predictor.file is None else f"{name}-{digest(predictor.file)[:8]}"


def name_of(word: str) -> tuple[str, str]:
    """NAME=MODEL → (NAME, MODEL). Without a name, the last part of the path: runs/my_model → my_model."""
    chosen = NAMED.fullmatch(word)
    if chosen and not Path(word).exists():
        return chosen[1], chosen[2]
    if word in shipped_names():
        return word, word
    path = Path(word)
    last = path.stem if path.is_file() else path.name
    generic = path.is_file() and last == "model"  # my_model/model.safetensors
    return (path.resolve().parent.name if generic else last or path.resolve().name), word
