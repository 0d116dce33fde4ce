"""The settings of training: targets, losses, augmentation and the training loop."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from condinst.settings.kinds import (
    AboveZero,
    Factor,
    Fraction,
    Milestones,
    Natural,
    Positive,
    Section,
    Shift,
    Side,
    Sides,
    Trackers,
)


class TargetConfig(Section):
    """Training targets: which locations are positive, and which positives draw a mask (paper §3.2)."""

    # The annotation that masks learn from. With boxes, annotated masks are ignored, as in the training of BoxInst.
    supervision: Literal["masks", "boxes"] = "masks"
    # How positive locations are chosen. fcos: by the annotation, as in the paper. dynamic: by annotation and
    # prediction, as in RTMDet (arXiv 2212.07784). The quality of a positive is then the IoU of its predicted box.
    assigner: Literal["fcos", "dynamic"] = "fcos"
    # Only for fcos. Half the side of the square around a mask's centroid in which locations are positive, in strides.
    center_radius: AboveZero = 1.5
    # Only for the SOLO family. Part of an object's box, moved to the mask's centroid, in which cells are positive. At
    # most three rows and three columns of cells are.
    center_part: Annotated[float, Field(gt=0, le=1)] = 0.2
    # Only for dynamic. Distance from a mask's centroid, in strides, up to which the distance costs little. The cost is
    # ten times as high for each stride more.
    dynamic_radius: AboveZero = 3.0
    # Only for dynamic. Number of locations with the largest IoU whose sum is the number of positives of an instance.
    dynamic_candidates: Annotated[int, Field(ge=1, le=1000)] = 13
    # How the positives that draw a mask are chosen. random: among all pictures of a process. random_per_image: among
    # those of each picture. best_per_image: the best of each picture by score × centerness, shared evenly over the
    # instances.
    mask_sampling: Literal["random", "random_per_image", "best_per_image"] = "random"
    # Most positives that draw a mask: for each process with random, for each picture otherwise. All of them do with
    # blendmask and meinst.
    max_mask_positives: Positive = 500


class LossConfig(Section):
    """The loss: the formula and the weight of each term (paper §3.3)."""

    # Loss of the class logits. quality_focal learns the quality of a location, which is the IoU of its predicted box
    # with the dynamic assigner. It divides the losses of classes and boxes by the sum of the qualities.
    classification: Literal["focal", "cross_entropy", "quality_focal"] = "focal"
    # Loss of the boxes. plain_giou is the formula of mmdetection, without the ones that AdelaiDet adds to the areas.
    # clamped_giou is that of RTMDet, for locations that may lie outside their box.
    box: Literal["giou", "plain_giou", "clamped_giou", "iou", "smooth_l1"] = "giou"
    # What the centerness output learns: the centerness of a location, or the IoU of its predicted box.
    quality: Literal["centerness", "iou"] = "centerness"
    # Loss of the masks: dice, binary cross-entropy, the sum of both, or box_bce, the mean cross-entropy inside the true
    # box, as YOLACT has it. blendmask needs bce. meinst needs code, the
    # squared error of the mask code, or bce of the decoded masks.
    mask: Literal["dice", "bce", "both", "box_bce", "code"] = "dice"
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
    # Range of a random factor for the size (large-scale jitter).
    jitter: tuple[Factor, Factor] = (1.0, 1.0)
    # How this factor is drawn: uniformly on a logarithmic scale (log) or uniformly (linear).
    jitter_scale: Literal["log", "linear"] = "log"
    # Side of a random square crop after resizing, in pixels. 0 crops nothing.
    crop: Annotated[int, Field(ge=0, le=16_384)] = 0
    # Show the surroundings of a picture, as SSD and YOLACT train: with probability 1/2 the picture lies anywhere in a
    # larger one, whose sides are up to this many times as long. 1 shows none.
    surroundings: Annotated[float, Field(ge=1, le=64)] = 1.0
    # Show a random part of the picture or of its surroundings, as SSD and YOLACT train. Its IoU with the box of every
    # object is at least 0, 0.1, 0.3, 0.5, 0.7 or 0.9, or the part is the whole. Objects whose centre the part does not
    # show are left out.
    part: bool = False
    # Change brightness, contrast, saturation, hue and the order of the channels at random, as SSD and YOLACT train.
    distort: bool = False
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
    # Largest random shift of hue, saturation and value. They lie in 0–179, 0–255 and 0–255, as in OpenCV. Each shift is
    # left out with probability 1/2.
    hsv: tuple[Shift, Shift, Shift] = (0, 0, 0)
    # Probability that four pictures share one canvas.
    mosaic: Fraction = 0.0
    # crop: the four pictures share a canvas of the size of the crop, or of the first picture if there is no crop. They
    # are resized, cropped, flipped and recoloured before. canvas: as in YOLOX and RTMDet, each picture is fitted into a
    # square of side `longer`. They share a canvas of twice the side, which jitter resizes and which is then cropped,
    # flipped and recoloured.
    mosaic_kind: Literal["crop", "canvas"] = "crop"
    # Probability that objects of another picture are pasted in.
    copy_paste: Fraction = 0.0
    # Probability that the picture is mixed half and half with another one, and has the objects of both.
    mixup: Fraction = 0.0
    # Last part of the training without mosaic, copy_paste and mixup. It begins at the nearest start of an epoch.
    plain_part: Fraction = 0.0
    # Training leaves out objects with a box that is not wider and higher than this number of pixels.
    min_side: Annotated[float, Field(ge=0, le=16_384)] = 0.0
    # The same for the box in the file, before any resizing.
    min_side_in_file: Annotated[float, Field(ge=0, le=16_384)] = 0.0
    # Number of decoded pictures that each process keeps. The other pictures of mosaic, copy_paste and mixup are then
    # among this number of pictures before it in the order of the epoch. With 0 they come from the whole data set, and
    # each is read again.
    cache: Annotated[int, Field(ge=0, le=100_000)] = 0

    @model_validator(mode="after")
    def _jitter_is_a_range(self) -> Self:
        if not 0 < self.jitter[0] <= self.jitter[1]:
            raise ValueError(f"jitter must be 0 < low ≤ high, got {self.jitter}")
        return self

    @model_validator(mode="after")
    def _canvas_shows_whole_pictures(self) -> Self:
        if self.mosaic and self.mosaic_kind == "canvas" and (self.part or self.surroundings > 1):
            raise ValueError("mosaic_kind canvas shows whole pictures; set part=false and surroundings=1")
        return self

    @model_validator(mode="after")
    def _canvas_has_a_side(self) -> Self:
        if self.mosaic and self.mosaic_kind == "canvas" and not self.crop:
            raise ValueError("mosaic_kind canvas needs a crop; set augment.crop")
        return self


def _no(value: object) -> object:
    """YAML reads a bare `no` as false."""
    return "no" if value is False else value


class TrainConfig(Section):
    """The training loop: its length, optimizer, learning rate, precision and checkpoints."""

    # Initial weights of the backbone. imagenet: timm downloads them. msra: the weights of the published recipes. none:
    # random weights. Or the path of a file.
    init: Annotated[str, Field(max_length=4096)] = "imagenet"
    # For meinst: the file of the mask code, as `condinst data mask-code` or the published program writes it. Empty: a
    # model to begin with brings its own.
    mask_code: Annotated[str, Field(max_length=4096)] = ""
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
    # Weight decay. It is 0 for norms, unless decay_norms, and, with adamw, for biases.
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    # Give norms the weight decay, too, as mmdetection does.
    decay_norms: bool = False
    # Learning rate of the backbone, as a multiple of lr.
    backbone_lr_factor: Annotated[float, Field(ge=0)] = 1.0
    # Number of iterations over which the learning rate grows linearly to lr.
    warmup_iterations: Natural = 1000
    # Learning rate of the first iteration, as a part of lr.
    warmup_factor: Fraction = 0.001
    # How the learning rate changes during these iterations. constant: it stays at warmup_factor.
    warmup: Literal["linear", "constant"] = "linear"
    # How the learning rate falls. step: to a tenth at each milestone. cosine: along half a cosine, to 0 at the end.
    # flat_cosine: constant at first, then along half a cosine.
    schedule: Literal["step", "cosine", "flat_cosine"] = "step"
    # Milestones of the step schedule, as parts of all iterations.
    milestones: Milestones = (2 / 3, 8 / 9)
    # Part of all iterations after which the rate of flat_cosine begins to fall.
    flat_part: Fraction = 0.5
    # Last learning rate of flat_cosine, as a part of lr.
    final_factor: Fraction = 0.05
    # Largest norm of the gradient. A longer gradient is scaled down to it. 0 turns clipping off.
    clip_norm: Annotated[float, Field(ge=0)] = 0.0
    # Decay of the moving average of the weights. 0 turns averaging off.
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    # Time constant in steps: the weight of the newest model in the average falls exponentially from 1 to 1 − ema_decay.
    # With 0 it is 1 − ema_decay from the start.
    ema_warmup: Natural = 0
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
