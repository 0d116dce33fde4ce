"""Every default number of the package, validated on creation. To and from YAML, with `key=value` overrides."""

from __future__ import annotations

import difflib
import math
import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from condinst.errors import UsageError, one_line
from condinst.safe_yaml import parse_yaml, read_yaml

# Bounds above are far beyond any use: a file with a slip, or from a stranger, must not ask for all the memory there is.
MOST = 2**32 - 1  # also the greatest seed that numpy takes
Fraction = Annotated[float, Field(ge=0, le=1)]
Natural = Annotated[int, Field(ge=0, le=MOST)]
Positive = Annotated[int, Field(ge=1, le=MOST)]
Channels = Annotated[int, Field(ge=1, le=4096)]
Convs = Annotated[int, Field(ge=0, le=64)]
Side = Annotated[int, Field(ge=1, le=65_536)]  # of a picture, in pixels
AboveZero = Annotated[float, Field(gt=0)]
Extent = Annotated[float, Field(allow_inf_nan=True)]  # the one kind of number that may be infinite

SHOWN_SCORE = 0.5  # lowest score shown to people; the best F1 of the nuclei model on its training pictures


FULL: Literal["full"] = "full"


def check_range(value: object) -> Range:
    """A range of pixel values as `InputConfig.range` holds it; the text "LOW,HIGH" is one, too. Raises UsageError."""
    try:
        return _range(value)
    except ValueError as error:
        raise UsageError(f"range: {error}") from None


def _range(value: object) -> Range:
    if value == "full" or value == "auto":
        return value
    parts = value.split(",") if isinstance(value, str) else value
    try:
        low, high = (float(part) for part in parts)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise ValueError(f"expected full, auto or LOW,HIGH, such as 0,4095, got {show(value)}") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"expected two finite numbers, the lower one first, got {show(value)}")
    return low, high


# Which values of a picture of more than 8 bits become black and white; see `InputConfig`.
Range = Annotated[Literal["full", "auto"] | tuple[float, float], BeforeValidator(_range)]


class Section(BaseModel):
    """A frozen group of settings; unknown keys and, but for an `Extent`, numbers that are not finite are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BackboneConfig(Section):
    """Image → C3, C4, C5 by a timm model."""

    name: str = "resnet50"
    same_padding: bool = False  # TensorFlow "SAME" padding, for weights trained so
    stride_in_1x1: bool = False  # a ResNet bottleneck's stride on its first 1×1, for Caffe weights; else on its 3×3
    deformable_interval: Natural = 0  # n: each n-th bottleneck of C3–C5 is deformable; 0: none
    norm: Literal["frozen", "affine", "batch"] = (
        "frozen"  # all fixed; statistics fixed, scale and bias learn; batch norm
    )
    frozen_stages: Natural = 2  # stem and first stage, as published


class HeadConfig(Section):
    """FCOS head: two towers shared over the levels (paper §3.2)."""

    convs: Convs = 4
    channels: Channels = 256
    prior: Annotated[float, Field(gt=0, lt=1)] = 0.01
    # strides: what every location says of its box's sides before training. As published 0, where the ReLU after it
    # lets half of the locations learn nothing at first
    distance_prior: Annotated[float, Field(ge=0, le=64)] = 0.0
    # deviation of the towers' first weights; only its ratio to the optimizer's steps counts, a norm follows each layer
    tower_std: Annotated[float, Field(gt=0, le=1)] = 0.01


class MaskBranchConfig(Section):
    """P3–P5 → mask features at stride 8."""

    convs: Convs = 4
    channels: Channels = 128
    features: Annotated[int, Field(ge=1, le=1024)] = 8


class MaskHeadConfig(Section):
    """The dynamic mask head: the network whose numbers the controller predicts."""

    depth: Annotated[int, Field(ge=1, le=16)] = 3
    width: Annotated[int, Field(ge=1, le=256)] = 8
    # of each mask pixel beside its features; "only": relative ones and no features, so no mask branch
    coordinates: Literal["relative", "absolute", "none", "only"] = "relative"
    mask_out_stride: Literal[8, 4, 2] = 4


class ModelConfig(Section):
    """Everything that decides a model's tensors and what its input must look like."""

    classes: Annotated[tuple[str, ...], Field(max_length=20_000)] = ()
    backbone: BackboneConfig = BackboneConfig()
    pyramid: Literal["fpn", "bifpn"] = "fpn"
    fpn_channels: Channels = 256  # of either pyramid
    bifpn_repeats: Annotated[int, Field(ge=1, le=64)] = 6
    head: HeadConfig = HeadConfig()
    mask_branch: MaskBranchConfig = MaskBranchConfig()
    mask_head: MaskHeadConfig = MaskHeadConfig()
    semantic: bool = False  # auxiliary semantic head, used in training only
    channel_order: Literal["RGB", "BGR"] = "RGB"
    pixel_mean: tuple[float, float, float] = (123.675, 116.28, 103.53)  # 0–255 scale, in channel order
    pixel_std: tuple[AboveZero, AboveZero, AboveZero] = (58.395, 57.12, 57.375)
    size_divisor: Annotated[int, Field(ge=32, le=4096, multiple_of=32)] = 32
    size_ranges: tuple[tuple[Extent, Extent], ...] = ((-1, 64), (64, 128), (128, 256), (256, 512), (512, float("inf")))
    coordinate_scales: tuple[AboveZero, ...] = (64, 128, 256, 512, 1024)

    @model_validator(mode="after")
    def _levels_agree(self) -> Self:
        if not len(self.size_ranges) == len(self.coordinate_scales) == 5:
            raise ValueError("size_ranges and coordinate_scales need five entries, one for each of P3–P7")
        if not all(low < high for low, high in self.size_ranges):  # not of NaN, too
            raise ValueError(f"size_ranges must be pairs of low < high, got {self.size_ranges}")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes holds a name twice")
        return self


class DetectConfig(Section):
    """From head outputs to the instances worth drawing (paper §3.4)."""

    score_threshold: Fraction = 0.05
    score_root: bool = True  # score = √(class · centerness), threshold on the product; False: mmdetection's rule
    candidates_per_level: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    nms: Literal["box", "mask", "matrix"] = "box"
    nms_threshold: Fraction = 0.6
    max_detections: Annotated[int, Field(ge=1, le=100_000)] = 100
    mask_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5


class InputConfig(Section):
    """Size of the image the network sees, in pixels: `shorter`, or less where the other side would pass `longer`.

    range: which values in a picture file become black and white.
    """

    shorter: Side = 800
    longer: Side = 1333
    # Which values become black and white in pictures of 16 or 32 bits and floats; 8-bit pictures stay as they are.
    # full: 0 and 65535. auto: the 0.1th and 99.9th percentile of each picture. Or two numbers, such as [0, 4095].
    range: Range = FULL


class TargetConfig(Section):
    """Which locations are positive, and which of them draw a mask (paper §3.2)."""

    supervision: Literal["masks", "boxes"] = "masks"  # boxes: annotated masks are ignored, as BoxInst was trained
    center_radius: AboveZero = 1.5  # in strides, around the mask centroid
    # random: of all pictures of a process together; best: by score and centerness, shared evenly over the instances
    mask_sampling: Literal["random", "random_per_image", "best_per_image"] = "random"
    max_mask_positives: Positive = 500  # per process or per image, as mask_sampling says


class LossConfig(Section):
    """Which formula and weight each term of the objective has (paper §3.3)."""

    classification: Literal["focal", "cross_entropy"] = "focal"
    box: Literal["giou", "plain_giou", "iou", "smooth_l1"] = "giou"  # plain: mmdetection's
    quality: Literal["centerness", "iou"] = "centerness"
    mask: Literal["dice", "bce", "both"] = "dice"
    classification_weight: float = 1.0
    box_weight: float = 1.0
    quality_weight: float = 1.0
    mask_weight: float = 1.0
    projection_weight: float = 1.0
    pairwise_weight: float = 1.0
    semantic_weight: float = 1.0


class BoxSupervisionConfig(Section):
    """Which neighbouring mask pixels of an instance without a mask should agree (BoxInst, arXiv 2012.02310)."""

    similarity: Fraction = 0.3  # least exp(−½ · distance of the Lab colours) of two pixels that should
    dilation: Positive = 2  # in mask pixels, between neighbours
    bottom_pixels: Natural = 10  # of the original picture, never looked at: often a caption
    warmup_iterations: Natural = 10_000  # the weight of the term grows linearly over these


class AugmentConfig(Section):
    """What a training image goes through. Where it is made of several, each of them goes through all the rest alone."""

    shorter: Annotated[tuple[Side, ...], Field(min_length=1)] = (640, 672, 704, 736, 768, 800)  # one is drawn
    longer: Side = 1333
    jitter: tuple[float, float] = (1.0, 1.0)  # large-scale jitter: an extra factor, drawn log-uniformly
    crop: Annotated[int, Field(ge=0, le=65_536)] = 0  # side of a random square crop of the resized image; 0: none
    flip_horizontal: Fraction = 0.5
    flip_vertical: Fraction = 0.0
    turns: bool = False  # 0, 90, 180 or 270 degrees, for images without an up
    brightness: Fraction = 0.0
    contrast: Fraction = 0.0
    saturation: Fraction = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    mosaic: Fraction = 0.0  # how often four pictures share one canvas: of the crop's size, or the first picture's
    copy_paste: Fraction = 0.0  # how often some of another picture's objects are pasted in

    @model_validator(mode="after")
    def _jitter_is_a_range(self) -> Self:
        if not 0 < self.jitter[0] <= self.jitter[1]:
            raise ValueError(f"jitter must be 0 < low ≤ high, got {self.jitter}")
        return self


def _no(value: object) -> object:
    """YAML reads a bare `no` as false."""
    return "no" if value is False else value


class TrainConfig(Section):
    """The fit loop."""

    # the backbone's first weights: "imagenet" (timm fetches), "msra" (the published recipes'), "none", or a file
    init: str = "imagenet"
    skip_empty: bool = False  # leave out pictures without an annotated object, as published
    # which batch norms share their statistics over processes (on GPUs only); BiFPN was published with "pyramid"
    sync_norms: Literal["none", "pyramid", "all"] = "none"
    iterations: Positive = 90_000
    # times that each training picture is seen; the iterations follow from it. None: `iterations` decides
    epochs: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 16  # over all processes
    accumulate: Annotated[int, Field(ge=1, le=65_536)] = 1  # batches whose gradients make one step
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: AboveZero = 0.01
    momentum: Fraction = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4  # 0 on norms and, with adamw, on biases
    backbone_lr_factor: Annotated[float, Field(ge=0)] = 1.0
    warmup_iterations: Natural = 1000
    warmup_factor: Fraction = 0.001
    schedule: Literal["step", "cosine"] = "step"
    milestones: tuple[Fraction, ...] = (2 / 3, 8 / 9)  # of the iterations: ÷10 at each
    clip_norm: Annotated[float, Field(ge=0)] = 0.0  # 0: off
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0  # 0: off
    precision: Annotated[Literal["no", "bf16", "fp16"], BeforeValidator(_no)] = "no"
    half: bool = False  # the finished model's weights in float16
    channels_last: bool = False
    recompute: bool = False  # the maps of backbone and head are made again on the way back instead of kept
    workers: Annotated[int, Field(ge=0, le=1024)] = 2
    seed: Natural = 0
    log_every: Positive = 20
    checkpoint_every: Positive = 1000
    validate_every: Natural = 0  # iterations; 0: only at the end
    patience: Natural = 0  # measurements without a better mask AP that end the run; 0: off
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()  # that are told beside log.csv


class Config(Section):
    """One recipe: what is built, how it is trained, how it predicts."""

    about: dict[str, str] = {}  # expected scores, time, command, licence: words for people
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
            raise ValueError("targets.supervision is boxes and model.semantic is true: that head learns from masks")
        if self.targets.supervision == "boxes" and self.augment.copy_paste:
            raise ValueError("targets.supervision is boxes but pasting needs masks; set augment.copy_paste=0")
        return self

    @classmethod
    def from_dict(cls, values: dict[str, Any], source: str = "configuration") -> Config:
        """Validate `values`; raises UsageError naming the first bad key of `source`."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise UsageError(f"{source}: {_first_problem(error)}") from None

    @classmethod
    def from_yaml(cls, path: Path) -> Config:
        """Read what `to_yaml` wrote; raises UsageError if it is missing, not YAML or not valid."""
        return cls.from_dict(read_settings(path), str(path))

    def to_yaml(self) -> str:
        """All settings, defaults included, so that a saved recipe never changes its meaning."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    def with_overrides(self, overrides: list[str]) -> Config:
        """Apply `section.key=value` strings (values are YAML); raises UsageError naming a bad one."""
        values = self.model_dump(mode="python")
        for text in overrides:
            key, sign, raw = text.partition("=")
            if not sign:
                raise UsageError(f"override '{text}': expected key=value, for example train.lr=0.01")
            place: Any = values
            *sections, last = key.strip().split(".")
            for name in sections:
                place = _child(place, name, key)
            _child(place, last, key)
            try:
                place[last] = parse_yaml(raw)
            except ValueError as error:
                reason = str(error).removeprefix("line 1: ")
                raise UsageError(f"override '{text:.200}': the value is not valid YAML ({reason})") from None
        return self.from_dict(values, "overrides")


# names of settings in other programs → the setting here
ELSEWHERE = {
    "epochs": "train.epochs",
    "imgsz": "input.shorter",
    "img_size": "input.shorter",
    "image_size": "input.shorter",
    "size": "input.shorter",
    "batch": "train.batch_size",
    "batch_size": "train.batch_size",
    "lr": "train.lr",
    "lr0": "train.lr",
    "learning_rate": "train.lr",
    "iterations": "train.iterations",
    "max_iter": "train.iterations",
    "patience": "train.patience",
    "workers": "train.workers",
    "seed": "train.seed",
    "optimizer": "train.optimizer",
    "weight_decay": "train.weight_decay",
    "momentum": "train.momentum",
    "amp": "train.precision",
    "iou": "detect.nms_threshold",
    "conf": "detect.score_threshold",
    "max_det": "detect.max_detections",
    "classes": "model.classes",
    "pretrained": "--from",
    "weights": "--from",
    "name": "--out",
    "project": "--out",
}

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def show(value: object) -> str:
    """At most 80 characters of how Python writes `value`, at no more work than that takes."""
    return one_line(_SHORT.repr(value))[:80]


def read_settings(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, not yet validated. Raises UsageError if the file is missing or holds none."""
    try:
        values = read_yaml(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UsageError(f"{path}: not valid YAML ({error}); correct it") from None
    if not isinstance(values, dict):
        raise UsageError(f"{path}: expected a mapping of settings, got {type(values).__name__}")
    return values


def _child(place: Any, name: str, key: str) -> Any:
    if not isinstance(place, dict) or name not in place:
        known = sorted(place) if isinstance(place, dict) else []
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known) or 'nothing'}"
        if name in ELSEWHERE:
            hint = f"did you mean {ELSEWHERE[name]}?"
        raise UsageError(f"override '{key}': there is no setting '{name}'; {hint}")
    return place[name]


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    place = one_line(".".join(str(part) for part in first["loc"])[:200]) or "settings"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "value_error":  # one of our own, which says what it got
        return f"{place}: {first['ctx']['error']}{more}"
    return f"{place}: {first['msg']}, got {show(first['input'])}{more}"
