"""All settings of the package with their defaults, units and ranges.

Pydantic validates each setting when a `Config` is created. A `Config` is read from YAML, written to YAML and changed by
`key=value` overrides. The comment above a field is its description in the settings reference.
"""

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

# The upper bounds lie far beyond any real use. They stop a mistyped or hostile file from exhausting the memory.
MOST_DETECTIONS = 25_000  # in a picture
MOST = 2**32 - 1  # also the largest seed that NumPy accepts
Fraction = Annotated[float, Field(ge=0, le=1)]
Natural = Annotated[int, Field(ge=0, le=MOST)]
Positive = Annotated[int, Field(ge=1, le=MOST)]
Channels = Annotated[int, Field(ge=1, le=4096)]
Convs = Annotated[int, Field(ge=0, le=64)]
ClassName = Annotated[str, Field(min_length=1, max_length=1000)]
Text = Annotated[str, Field(max_length=100_000)]
About = Annotated[dict[Text, Text], Field(max_length=1000)]
Side = Annotated[int, Field(ge=1, le=16_384)]  # a side of a picture, in pixels
AboveZero = Annotated[float, Field(gt=0)]
Factor = Annotated[float, Field(gt=0, le=64)]  # of a size
Sides = Annotated[tuple[Side, ...], Field(min_length=1, max_length=1000)]
Milestones = Annotated[tuple[Fraction, ...], Field(max_length=1000)]
Trackers = Annotated[tuple[Literal["tensorboard", "wandb", "mlflow"], ...], Field(max_length=3)]
Extent = Annotated[float, Field(allow_inf_nan=True)]  # the only kind of number that may be infinite

# The lowest score that pictures and tables show by default. The nuclei model has its best F1 on its training pictures
# at this score.
SHOWN_SCORE = 0.5

FULL: Literal["full"] = "full"


def check_range(value: object) -> Range:
    """Turn "full", "auto", "LOW,HIGH" or a pair of numbers into a value for `InputConfig.range`.

    Example: `check_range("0,4095")` gives `(0.0, 4095.0)`. Raises UsageError for any other value.
    """
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


# The pixel values that become black and white in a picture of more than 8 bits; see `InputConfig`.
Range = Annotated[Literal["full", "auto"] | tuple[float, float], BeforeValidator(_range)]


class Section(BaseModel):
    """A frozen group of settings.

    It refuses unknown keys. It refuses infinity and NaN, except in an `Extent`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BackboneConfig(Section):
    """The backbone: a timm model that makes the feature maps C3, C4 and C5 from the image."""

    # Name of the timm model, such as resnet50 or mobilenetv2_100.
    name: Annotated[str, Field(min_length=1, max_length=200)] = "resnet50"
    # Pad as TensorFlow's "SAME" does. Set it for weights that were trained with this padding.
    same_padding: bool = False
    # Put the stride of a ResNet bottleneck on its first 1×1 convolution, as Caffe weights need. Otherwise it is on the
    # 3×3 convolution.
    stride_in_1x1: bool = False
    # Make the 3×3 convolution of every n-th bottleneck in C3–C5 deformable. 0 makes none deformable.
    deformable_interval: Annotated[int, Field(ge=0, le=1024)] = 0
    # Which parts of the batch norms learn. frozen: none. affine: scale and bias, with fixed statistics. batch: scale,
    # bias and statistics.
    norm: Literal["frozen", "affine", "batch"] = "frozen"
    # Number of stages that do not learn, counted from the input. The stem of a ResNet is the first; the paper uses 2.
    frozen_stages: Annotated[int, Field(ge=0, le=64)] = 2


class HeadConfig(Section):
    """The FCOS head: a class tower and a box tower, shared by all pyramid levels (paper §3.2)."""

    # Number of 3×3 convolutions in each of the two towers.
    convs: Convs = 4
    # Output channels of each convolution in the towers.
    channels: Channels = 256
    # Class probability that the head predicts everywhere before training.
    prior: Annotated[float, Field(gt=0, lt=1)] = 0.01
    # Distance from a location to each side of its box before training, in strides. The published value is 0. At 0, the
    # ReLU after the prediction stops about half of the locations from learning at first.
    distance_prior: Annotated[float, Field(ge=0, le=64)] = 0.0
    # Standard deviation of the towers' initial weights. A norm follows each layer, so only the ratio of this value to
    # the optimizer's step size matters.
    tower_std: Annotated[float, Field(gt=0, le=1)] = 0.01


class MaskBranchConfig(Section):
    """The mask branch: it makes the mask features, at stride 8, from P3, P4 and P5."""

    # Number of 3×3 convolutions after P3, P4 and P5 are summed.
    convs: Convs = 4
    # Output channels of each of these convolutions.
    channels: Channels = 128
    # Number of mask features for each pixel.
    features: Annotated[int, Field(ge=1, le=1024)] = 8


class MaskHeadConfig(Section):
    """The dynamic mask head: a small network for each instance, with weights that the controller predicts."""

    # Number of 1×1 convolutions.
    depth: Annotated[int, Field(ge=1, le=16)] = 3
    # Channels between two convolutions.
    width: Annotated[int, Field(ge=1, le=256)] = 8
    # Coordinates that the head reads beside the mask features. relative: from the instance's location. absolute: from
    # the centre of the input. none: no coordinates. only: relative coordinates and no mask features, so the model has
    # no mask branch.
    coordinates: Literal["relative", "absolute", "none", "only"] = "relative"
    # Pixels of the input for each pixel of a predicted mask, along each side.
    mask_out_stride: Literal[8, 4, 2] = 4


class ModelConfig(Section):
    """The network: its classes, its parts and the input it expects."""

    # Class names, in the order of the labels. Training takes them from the data set.
    classes: Annotated[tuple[ClassName, ...], Field(max_length=20_000)] = ()
    backbone: BackboneConfig = BackboneConfig()
    # The feature pyramid that makes P3–P7.
    pyramid: Literal["fpn", "bifpn"] = "fpn"
    # Channels of each pyramid level, for FPN and BiFPN.
    fpn_channels: Channels = 256
    # Number of BiFPN repeats. FPN ignores it.
    bifpn_repeats: Annotated[int, Field(ge=1, le=64)] = 6
    head: HeadConfig = HeadConfig()
    mask_branch: MaskBranchConfig = MaskBranchConfig()
    mask_head: MaskHeadConfig = MaskHeadConfig()
    # Add the auxiliary semantic head. It is used in training only.
    semantic: bool = False
    # Order of the colour channels in the input.
    channel_order: Literal["RGB", "BGR"] = "RGB"
    # Value that is subtracted from each channel, from 0 to 255, in the order of channel_order.
    pixel_mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    # Value that each channel is divided by after that, from 0 to 255, in the order of channel_order.
    pixel_std: tuple[AboveZero, AboveZero, AboveZero] = (58.395, 57.12, 57.375)
    # The input is padded to a multiple of this number of pixels on each side.
    size_divisor: Annotated[int, Field(ge=32, le=512, multiple_of=32)] = 32
    # For each of P3–P7, the smallest and the largest distance in pixels from a positive location to the farthest side
    # of its box. Both ends are included.
    size_ranges: tuple[tuple[Extent, Extent], ...] = ((-1, 64), (64, 128), (128, 256), (256, 512), (512, float("inf")))
    # For each of P3–P7, the number of pixels that relative coordinates are divided by.
    coordinate_scales: tuple[AboveZero, ...] = (64, 128, 256, 512, 1024)

    @model_validator(mode="after")
    def _levels_agree(self) -> Self:
        if not len(self.size_ranges) == len(self.coordinate_scales) == 5:
            raise ValueError("size_ranges and coordinate_scales need five entries, one for each of P3–P7")
        if not all(low < high for low, high in self.size_ranges):  # NaN fails here, too
            raise ValueError(f"size_ranges must be pairs of low < high, got {self.size_ranges}")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes holds a name twice")
        return self


class DetectConfig(Section):
    """Detection: how the head's output becomes a list of instances (paper §3.4)."""

    # Lowest score of a candidate. With score_root it is compared with class probability × centerness, otherwise with
    # the class probability.
    score_threshold: Fraction = 0.05
    # The score of an instance is the square root of class probability × centerness. With false it is the product, as in
    # mmdetection.
    score_root: bool = True
    # Most candidates of each pyramid level that reach the suppression of duplicates.
    candidates_per_level: Annotated[int, Field(ge=1, le=100_000)] = 1000
    # How duplicates are suppressed: by the IoU of boxes, by the IoU of masks, or by Matrix NMS on masks.
    nms: Literal["box", "mask", "matrix"] = "box"
    # IoU with a better candidate of the same class above which a candidate is dropped. Matrix NMS ignores it.
    nms_threshold: Fraction = 0.6
    # Most instances in a picture.
    max_detections: Annotated[int, Field(ge=1, le=MOST_DETECTIONS)] = 100
    # Probability above which a pixel belongs to the mask.
    mask_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5


class InputConfig(Section):
    """The size of the image that the network sees, and the values in a file that become black and white.

    The shorter side gets `shorter` pixels, or fewer where the other side would become longer than `longer`.
    """

    # Length of the shorter side after resizing, in pixels.
    shorter: Side = 800
    # Largest length of the longer side after resizing, in pixels.
    longer: Side = 1333
    # Pixel values that become black and white in pictures of 16 or 32 bits or of floats. full: 0 and 65535. auto: the
    # 0.1th and the 99.9th percentile of each picture. Or two numbers, such as [0, 4095]. 8-bit pictures do not change.
    range: Range = FULL


class TargetConfig(Section):
    """Training targets: which locations are positive, and which positives draw a mask (paper §3.2)."""

    # The annotation that masks learn from. With boxes, annotated masks are ignored, as in the training of BoxInst.
    supervision: Literal["masks", "boxes"] = "masks"
    # Half the side of the square around a mask's centroid in which locations are positive, in strides.
    center_radius: AboveZero = 1.5
    # How the positives that draw a mask are chosen. random: among all pictures of a process. random_per_image: among
    # those of each picture. best_per_image: the best of each picture by score × centerness, shared evenly over the
    # instances.
    mask_sampling: Literal["random", "random_per_image", "best_per_image"] = "random"
    # Most positives that draw a mask: for each process with random, for each picture otherwise.
    max_mask_positives: Positive = 500


class LossConfig(Section):
    """The loss: the formula and the weight of each term (paper §3.3)."""

    # Loss of the class logits.
    classification: Literal["focal", "cross_entropy"] = "focal"
    # Loss of the boxes. plain_giou is the formula of mmdetection, without the ones that AdelaiDet adds to the areas.
    box: Literal["giou", "plain_giou", "iou", "smooth_l1"] = "giou"
    # What the centerness output learns: the centerness of a location, or the IoU of its predicted box.
    quality: Literal["centerness", "iou"] = "centerness"
    # Loss of the masks: dice, binary cross-entropy, or the sum of both.
    mask: Literal["dice", "bce", "both"] = "dice"
    # Factor of the classification loss.
    classification_weight: float = 1.0
    # Factor of the box loss.
    box_weight: float = 1.0
    # Factor of the centerness or IoU loss.
    quality_weight: float = 1.0
    # Factor of the mask loss.
    mask_weight: float = 1.0
    # Factor of the projection loss, for instances that have a box and no mask (BoxInst).
    projection_weight: float = 1.0
    # Factor of the pairwise loss, for instances that have a box and no mask (BoxInst).
    pairwise_weight: float = 1.0
    # Factor of the semantic head's loss.
    semantic_weight: float = 1.0


class BoxSupervisionConfig(Section):
    """The pairwise loss for instances that have a box and no mask (BoxInst, arXiv 2012.02310).

    It asks neighbouring pixels of similar colour to agree: both inside the mask, or both outside.
    """

    # Smallest similarity of two colours that makes their pixels agree: exp(−½ · distance in CIE Lab).
    similarity: Fraction = 0.3
    # Distance between two neighbours, in pixels of the mask.
    dilation: Annotated[int, Field(ge=1, le=256)] = 2
    # Rows at the bottom of the original picture that the loss ignores, in pixels. They often hold a caption.
    bottom_pixels: Natural = 10
    # Number of iterations over which the weight of the loss grows linearly from 0.
    warmup_iterations: Natural = 10_000


class AugmentConfig(Section):
    """Augmentation: how a training picture is resized, cropped, flipped, recoloured and combined with others.

    A picture that is made of several takes these steps for each of them separately.
    """

    # Lengths of the shorter side after resizing, in pixels. One is drawn for each picture.
    shorter: Sides = (640, 672, 704, 736, 768, 800)
    # Largest length of the longer side after resizing, in pixels.
    longer: Side = 1333
    # Range of a random factor for the size, drawn uniformly on a logarithmic scale (large-scale jitter).
    jitter: tuple[Factor, Factor] = (1.0, 1.0)
    # Side of a random square crop after resizing, in pixels. 0 crops nothing.
    crop: Annotated[int, Field(ge=0, le=16_384)] = 0
    # Probability of a horizontal flip.
    flip_horizontal: Fraction = 0.5
    # Probability of a vertical flip.
    flip_vertical: Fraction = 0.0
    # Rotate by 0, 90, 180 or 270 degrees. Use it for pictures without a fixed top, such as microscopy.
    turns: bool = False
    # Strength b of a random change of brightness, by a factor from 1 − b to 1 + b.
    brightness: Fraction = 0.0
    # Strength c of a random change of contrast, by a factor from 1 − c to 1 + c.
    contrast: Fraction = 0.0
    # Strength s of a random change of saturation, by a factor from 1 − s to 1 + s.
    saturation: Fraction = 0.0
    # Largest random shift of the hue, as a part of the colour circle.
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    # Probability that four pictures share one canvas. The canvas has the size of the crop, or of the first picture if
    # there is no crop.
    mosaic: Fraction = 0.0
    # Probability that objects of another picture are pasted in.
    copy_paste: Fraction = 0.0

    @model_validator(mode="after")
    def _jitter_is_a_range(self) -> Self:
        if not 0 < self.jitter[0] <= self.jitter[1]:
            raise ValueError(f"jitter must be 0 < low ≤ high, got {self.jitter}")
        return self


def _no(value: object) -> object:
    """YAML reads a bare `no` as false."""
    return "no" if value is False else value


class TrainConfig(Section):
    """The training loop: its length, optimizer, learning rate, precision and checkpoints."""

    # Initial weights of the backbone. imagenet: timm downloads them. msra: the weights of the published recipes. none:
    # random weights. Or the path of a file.
    init: Annotated[str, Field(max_length=4096)] = "imagenet"
    # Leave out pictures without an annotated object, as the published training does.
    skip_empty: bool = False
    # Which batch norms share their statistics over all GPUs. The published BiFPN models use pyramid. CPUs ignore it.
    sync_norms: Literal["none", "pyramid", "all"] = "none"
    # Number of optimizer steps.
    iterations: Positive = 90_000
    # Number of times that training sees each picture. If it is set, it decides the number of iterations.
    epochs: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    # Pictures in a batch, over all processes together.
    batch_size: Annotated[int, Field(ge=1, le=16_384)] = 16
    # Number of batches whose gradients make one optimizer step.
    accumulate: Annotated[int, Field(ge=1, le=65_536)] = 1
    # The optimizer: stochastic gradient descent with momentum, or AdamW.
    optimizer: Literal["sgd", "adamw"] = "sgd"
    # Highest learning rate.
    lr: AboveZero = 0.01
    # Momentum of sgd.
    momentum: Fraction = 0.9
    # Weight decay. It is 0 for norms and, with adamw, for biases.
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    # Learning rate of the backbone, as a multiple of lr.
    backbone_lr_factor: Annotated[float, Field(ge=0)] = 1.0
    # Number of iterations over which the learning rate grows linearly to lr.
    warmup_iterations: Natural = 1000
    # Learning rate of the first iteration, as a part of lr.
    warmup_factor: Fraction = 0.001
    # How the learning rate falls. step: to a tenth at each milestone. cosine: along half a cosine, to 0 at the end.
    schedule: Literal["step", "cosine"] = "step"
    # Milestones of the step schedule, as parts of all iterations.
    milestones: Milestones = (2 / 3, 8 / 9)
    # Largest norm of the gradient. A longer gradient is scaled down to it. 0 turns clipping off.
    clip_norm: Annotated[float, Field(ge=0)] = 0.0
    # Decay of the moving average of the weights. 0 turns averaging off.
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    # Mixed precision: bf16 or fp16. no computes in float32.
    precision: Annotated[Literal["no", "bf16", "fp16"], BeforeValidator(_no)] = "no"
    # Save the weights of the finished model in float16.
    half: bool = False
    # Keep tensors in the channels-last memory format.
    channels_last: bool = False
    # Compute the feature maps of backbone and head again in the backward pass. Training then needs less memory and more
    # time.
    recompute: bool = False
    # Number of worker processes that read pictures, for each training process. 0 reads them in the training process.
    workers: Annotated[int, Field(ge=0, le=256)] = 2
    # Seed of all random choices.
    seed: Natural = 0
    # Iterations between two lines of the log.
    log_every: Positive = 20
    # Iterations between two checkpoints.
    checkpoint_every: Positive = 1000
    # Iterations between two measurements on the validation data. 0 measures only at the end.
    validate_every: Natural = 0
    # Number of measurements in a row without a better mask AP that ends the training early. 0 never ends it early.
    patience: Natural = 0
    # Experiment trackers that receive the numbers of log.csv as well.
    trackers: Trackers = ()


class Config(Section):
    """A recipe: how a model is built, how it is trained and how it predicts."""

    # Notes for people, such as expected scores, time, command and licence. condinst computes nothing from them.
    about: About = {}
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
            raise UsageError(f"{source}: {_first_problem(error)}") from None

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


# Setting in another program → the setting or option here.
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
    """The `repr` of `value`, cut to 80 characters. The cost does not grow with the size of `value`."""
    return one_line(_SHORT.repr(value))[:80]


def read_settings(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, not yet validated.

    Raises UsageError if the file cannot be read, is not valid YAML or holds something other than a mapping.
    """
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
    if first["type"] == "value_error":  # a validator of this file: its message names the value
        return f"{place}: {first['ctx']['error']}{more}"
    return f"{place}: {first['msg']}, got {show(first['input'])}{more}"
