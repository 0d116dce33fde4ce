"""`Config`: all settings of a model, from building to prediction. The folder `settings` holds each group of settings.

Pydantic validates each setting when a `Config` is created. A `Config` is read from YAML, written to YAML and changed by
`key=value` overrides.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from condinst.errors import UsageError
from condinst.settings.kinds import About, Section
from condinst.settings.model import ModelConfig
from condinst.settings.prediction import DetectConfig, InputConfig
from condinst.settings.reading import first_problem, read_settings, set_value
from condinst.settings.training import AugmentConfig, BoxSupervisionConfig, LossConfig, TargetConfig, TrainConfig

# Values that a method needs, because it lacks the parts that the other values are for.
OF_SOLO = {
    "targets.supervision": "masks",
    "targets.assigner": "fcos",
    "detect.score_root": False,
    "detect.nms": "matrix",
    "detect.exchange_scales": False,
    "loss.classification": "focal",
    "loss.mask": "dice",
}
NEEDS: dict[str, dict[str, object]] = {
    "rtmdet-ins": {"targets.assigner": "dynamic", "detect.score_root": False, "model.semantic": False},
    "solo": OF_SOLO,
    "decoupled-solo": OF_SOLO,
    "solov2": OF_SOLO,
}


class Config(Section):
    """A recipe: how a model is built, how it is trained and how it predicts."""

    # Notes for people, such as expected scores, time, command and licence. condinst computes nothing from them.
    about: About = Field(default={})
    model: ModelConfig = ModelConfig()
    input: InputConfig = InputConfig()
    detect: DetectConfig = DetectConfig()
    targets: TargetConfig = TargetConfig()
    loss: LossConfig = LossConfig()
    box_supervision: BoxSupervisionConfig = BoxSupervisionConfig()
    augment: AugmentConfig = AugmentConfig()
    train: TrainConfig = TrainConfig()

    @model_validator(mode="after")
    def _supervision_suffices(self) -> Self:
        if self.targets.supervision == "boxes" and self.model.semantic:
            raise ValueError(
                "targets.supervision is boxes and model.semantic is true, but the semantic head learns from masks; "
                "set model.semantic=false"
            )
        for name, wanted in NEEDS.get(self.model.method, {}).items():
            section, key = name.split(".")
            if getattr(getattr(self, section), key) != wanted:
                raise ValueError(f"model.method is {self.model.method}, which needs {name}={str(wanted).lower()}")
        if self.targets.supervision == "boxes" and self.augment.copy_paste:
            raise ValueError("targets.supervision is boxes but copy-paste needs masks; set augment.copy_paste=0")
        return self

    @classmethod
    def from_dict(cls, values: dict[str, Any], source: str = "configuration") -> Config:
        """Make a Config from nested dicts.

        source: the name of their origin in messages. Raises UsageError for the first unknown key or bad value.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise UsageError(f"{source}: {first_problem(error)}") from None

    @classmethod
    def from_yaml(cls, path: Path) -> Config:
        """Read a file that `to_yaml` wrote.

        Raises UsageError if the file is missing, is not YAML or holds an unknown key or a bad value.
        """
        return cls.from_dict(read_settings(path), str(path))

    def to_yaml(self) -> str:
        """All settings as YAML text. Defaults are included, so a later version reads the same recipe."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    def with_overrides(self, overrides: list[str]) -> Config:
        """A copy with some settings changed.

        overrides: strings `section.key=value`, such as "train.lr=0.001"; the value is YAML. Raises UsageError for a
        malformed string, an unknown key or a bad value.
        """
        values = self.model_dump(mode="python")
        for text in overrides:
            set_value(values, text)
        return self.from_dict(values, "overrides")
