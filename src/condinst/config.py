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
from condinst.settings.methods import check_method
from condinst.settings.model import ModelConfig
from condinst.settings.prediction import DetectConfig, InputConfig
from condinst.settings.reading import first_problem, read_settings, set_value
from condinst.settings.training import AugmentConfig, BoxSupervisionConfig, LossConfig, TargetConfig, TrainConfig


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
        check_method(self)
        if self.targets.supervision == "boxes" and self.augment.copy_paste:
            raise ValueError("targets.supervision is boxes but copy-paste needs masks; set augment.copy_paste=0")
        return self

    @model_validator(mode="after")
    def _stretched_to_one_size(self) -> Self:
        """A stretched input has one size in training, too: pictures of different sizes would be padded."""
        augment, low = self.augment, self.augment.jitter[0]
        if not self.input.stretch or (not augment.crop and augment.jitter == (1, 1)):
            return self
        if not augment.crop or augment.crop > low * augment.longer:
            raise ValueError(
                "input.stretch gives all pictures one size, but augment.jitter changes the size; set "
                "augment.jitter=[1,1], or an augment.crop of at most the smallest size"
            )
        return self

    @property
    def size_decides_level(self) -> bool:
        """Whether the annotated size of an object alone decides which pyramid level learns the object."""
        return len(self.model.size_ranges) > 0 and not self.model.grids and self.targets.assigner == "fcos"

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
