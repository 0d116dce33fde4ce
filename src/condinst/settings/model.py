"""The settings of the network. The comment above a field is its description in the settings reference."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from condinst.settings.boxed import BlendMaskConfig, MEInstConfig
from condinst.settings.kinds import AboveZero, Channels, ClassName, Convs, Extent, Section
from condinst.settings.solo import SoloConfig
from condinst.structures import BLENDMASK, CONDINST, MEINST, RTMDET_INS, SOLO, YOLACT, YOLACT_ON_FCOS, Geometry

Method = Literal[
    "condinst",
    "rtmdet-ins",
    "solo",
    "decoupled-solo",
    "solov2",
    "yolact",
    "blendmask",
    "meinst",
    "solov2-fcos",
    "yolact-fcos",
]
Filters = Literal["layers", "kernel", "coefficients"]


class Fit(NamedTuple):
    """The settings of the network that fit a method.

    geometry: where the locations lie and how masks grow. pyramids: values of model.pyramid. ranges: numbers of
    size_ranges. scales: the number of coordinate_scales. unused: settings that the method does not use; they keep their
    default. filters: what a location of FCOS predicts for its mask: the "layers" of a dynamic mask head; the "kernel"
    of one 1×1 convolution without a bias; or such "coefficients" from −1 to 1.
    """

    geometry: Geometry
    pyramids: tuple[str, ...]
    ranges: tuple[int, ...]
    scales: int
    unused: tuple[str, ...]
    filters: Filters = "layers"


OF_BOXES = ("semantic", "bifpn_repeats", "pafpn_blocks", "mask_head", "head.distance_prior", "head.separate_box_tower")
OF_ANCHORS = (
    *("solo", "bifpn_repeats", "pafpn_blocks", "mask_head", "head.prior"),
    *("head.distance_prior", "head.separate_box_tower", "head.tower_std"),
)
OF_FCOS = ("head.shared_convs", "head.level_norms", "head.deformable")
OTHERS = ("blendmask", "meinst", *OF_FCOS)  # settings of few methods
OF_LAYERS = ("mask_head.depth", "mask_head.width", "mask_head.coordinates")
OF_SQUARES = ("bifpn_repeats", "pafpn_blocks", "mask_head", "head.separate_box_tower", "solo")
FITS: dict[str, Fit] = {
    "condinst": Fit(CONDINST, ("fpn", "bifpn"), (5,), 5, ("solo", *OTHERS)),
    "rtmdet-ins": Fit(RTMDET_INS, ("pafpn",), (0,), 3, ("solo", *OTHERS)),
    "solo": Fit(SOLO, ("fpn",), (5,), 0, (*OF_BOXES, "mask_branch", "solo.one_mask_tower", *OTHERS)),
    "decoupled-solo": Fit(SOLO, ("fpn",), (5,), 0, (*OF_BOXES, "mask_branch", *OTHERS)),
    "solov2": Fit(SOLO, ("fpn",), (5,), 0, (*OF_BOXES, "mask_branch.convs", "solo.one_mask_tower", *OTHERS)),
    "yolact": Fit(YOLACT, ("fpn",), (0,), 0, (*OF_ANCHORS, *OTHERS)),
    "blendmask": Fit(BLENDMASK, ("fpn",), (3, 4, 5), 0, (*OF_SQUARES, "meinst", "head.deformable")),
    "solov2-fcos": Fit(CONDINST, ("fpn", "bifpn"), (5,), 5, ("solo", *OF_LAYERS, *OTHERS), "kernel"),
    "yolact-fcos": Fit(YOLACT_ON_FCOS, ("fpn", "bifpn"), (5,), 5, ("solo", *OF_LAYERS, *OTHERS), "coefficients"),
    "meinst": Fit(MEINST, ("fpn",), (5,), 0, (*OF_SQUARES, "blendmask", "mask_branch", "semantic", *OF_FCOS[:2])),
}


class BackboneConfig(Section):
    """The backbone: a timm model or a CSPNeXt that makes the feature maps C3, C4 and C5 from the image."""

    # Name of the timm model, such as resnet50 or mobilenetv2_100. Or cspnext_tiny, cspnext_s, cspnext_m, cspnext_l or
    # cspnext_x.
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
    """The FCOS head: a class tower and a box tower, shared by all pyramid levels (paper §3.2).

    In the SOLO family: a class tower, and towers for masks or for filters.
    """

    # Number of 3×3 convolutions in each of the towers. yolact has one tower.
    convs: Convs = 4
    # Output channels of each convolution in the towers.
    channels: Channels = 256
    # Class probability that the head predicts everywhere before training.
    prior: Annotated[float, Field(gt=0, lt=1)] = 0.01
    # Distance from a location to each side of its box before training, in strides. The published value is 0. At 0, the
    # ReLU after the prediction stops about half of the locations from learning at first.
    distance_prior: Annotated[float, Field(ge=0, le=64)] = 0.0
    # Give rtmdet-ins a box tower of its own. In the published models, the class tower is also the box tower.
    separate_box_tower: bool = False
    # Standard deviation of the towers' initial weights. A norm follows each layer, so only the ratio of this value to
    # the optimizer's step size matters.
    tower_std: Annotated[float, Field(gt=0, le=1)] = 0.01
    # For blendmask: number of 3×3 convolutions before the two towers, which read the last of them.
    shared_convs: Convs = 0
    # For blendmask: give the shared convolutions batch norms, separate ones for each level, in place of group norms.
    level_norms: bool = False
    # For meinst: make the last convolution of each tower deformable.
    deformable: bool = False


class MaskBranchConfig(Section):
    """The mask branch: it makes the mask features, at stride 8, from P3, P4 and P5.

    Those of blendmask are its bases, at stride 4. Those of yolact are its prototypes, from P3 at stride 4. Those of
    solov2 have stride 4 and are made from P2–P5.
    """

    # Number of 3×3 convolutions after P3, P4 and P5 are summed. blendmask and yolact have one more, at stride 4.
    convs: Convs = 4
    # Output channels of each of these convolutions.
    channels: Channels = 128
    # Number of mask features for each pixel. The published BlendMask has 4 bases, YOLACT 32 prototypes, SOLOv2 256
    # features.
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
    # The method: CondInst; RTMDet-Ins (arXiv 2212.07784), which has the same dynamic mask head on another detector;
    # SOLO (arXiv 1912.04488), Decoupled SOLO or SOLOv2 (arXiv 2003.10152), which find no boxes; YOLACT
    # (arXiv 1904.02689), which has anchors and adds up prototypes; BlendMask (arXiv 2001.00309) or MEInst
    # (arXiv 2003.11712), whose masks fill the boxes. solov2-fcos and yolact-fcos predict the masks of SOLOv2 and YOLACT
    # at the locations of FCOS, as condinst predicts its own.
    method: Method = "condinst"
    backbone: BackboneConfig = BackboneConfig()
    # The feature pyramid. fpn makes P3–P7, for condinst, blendmask and meinst. bifpn does so for condinst. pafpn makes
    # P3–P5, for rtmdet-ins. In the SOLO family, fpn makes P2–P6. yolact has an fpn of its own.
    pyramid: Literal["fpn", "bifpn", "pafpn"] = "fpn"
    # Channels of each pyramid level.
    fpn_channels: Channels = 256
    # Number of BiFPN repeats. The other pyramids ignore it.
    bifpn_repeats: Annotated[int, Field(ge=1, le=64)] = 6
    # Number of blocks in each stage of PAFPN. The other pyramids ignore it.
    pafpn_blocks: Annotated[int, Field(ge=1, le=64)] = 1
    head: HeadConfig = HeadConfig()
    mask_branch: MaskBranchConfig = MaskBranchConfig()
    mask_head: MaskHeadConfig = MaskHeadConfig()
    solo: SoloConfig = SoloConfig()
    blendmask: BlendMaskConfig = BlendMaskConfig()
    meinst: MEInstConfig = MEInstConfig()
    # Add the auxiliary semantic head. It is used in training only.
    semantic: bool = False
    # Order of the colour channels in the input.
    channel_order: Literal["RGB", "BGR"] = "RGB"
    # Value that is subtracted from each channel, from 0 to 255, in the order of channel_order.
    pixel_mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    # Value that each channel is divided by after that, from 0 to 255, in the order of channel_order.
    pixel_std: tuple[AboveZero, AboveZero, AboveZero] = (58.395, 57.12, 57.375)
    # Value of the padding at the right and at the bottom, from 0 to 255. null: the mean, so that it becomes 0.
    pad_value: Annotated[float, Field(ge=0, le=255)] | None = None
    # The input is padded to a multiple of this number of pixels on each side: a multiple of 32, or 1 for yolact, which
    # has no padding.
    size_divisor: Annotated[int, Field(ge=1, le=512)] = 32
    # For each pyramid level, the smallest and the largest distance in pixels from a positive location to the farthest
    # side of its box. Both ends are included. In the SOLO family, the smallest and the largest square root of the area
    # of an object's box. rtmdet-ins and yolact have none. blendmask has as many levels as pairs here, from 3 to 5.
    size_ranges: tuple[tuple[Extent, Extent], ...] = ((-1, 64), (64, 128), (128, 256), (256, 512), (512, float("inf")))
    # For each pyramid level, the number of pixels that relative coordinates are divided by. Methods other
    # than condinst and rtmdet-ins have none.
    coordinate_scales: tuple[AboveZero, ...] = (64, 128, 256, 512, 1024)

    @property
    def geometry(self) -> Geometry:
        """Where the locations lie and how masks grow."""
        geometry, ranges = FITS[self.method].geometry, FITS[self.method].ranges
        return geometry._replace(strides=geometry.strides[: len(self.size_ranges)]) if len(ranges) > 1 else geometry

    @property
    def filters(self) -> Filters:
        """What a location of FCOS predicts for its mask, see `Fit`."""
        return FITS[self.method].filters

    @property
    def coordinates(self) -> Literal["relative", "absolute", "none", "only"]:
        """The coordinates that the dynamic mask head reads."""
        return self.mask_head.coordinates if self.filters == "layers" else "none"

    @property
    def grids(self) -> tuple[int, ...]:
        """The number of cells along each side of the grid of each level; () for a method without grids."""
        return self.solo.grids if self.geometry.clips == "masks" else ()

    @property
    def truth_stride(self) -> int:
        """Pixels of the padded input for each pixel of a training mask, along each side."""
        return self.mask_head.mask_out_stride if self.geometry.enlarging in {"aligned", "bilinear"} else 1

    @model_validator(mode="after")
    def _levels_agree(self) -> Self:
        fit = FITS[self.method]
        if self.pyramid not in fit.pyramids:
            fitting = " or ".join(fit.pyramids)
            raise ValueError(f"method {self.method} needs pyramid {fitting}, got {self.pyramid}")
        divides = self.size_divisor == 1 if self.geometry.enlarging == "stretched" else self.size_divisor % 32 == 0
        if not divides:
            wanted = "1" if self.geometry.enlarging == "stretched" else "a multiple of 32"
            raise ValueError(f"size_divisor: method {self.method} needs {wanted}, got {self.size_divisor}")
        counts = len(self.size_ranges), len(self.coordinate_scales)
        if counts[0] not in fit.ranges or counts[1] != fit.scales:
            ranges = " or ".join(str(count) for count in fit.ranges)
            raise ValueError(
                f"method {self.method} needs {ranges} size_ranges and {fit.scales} coordinate_scales, got "
                f"{counts[0]} and {counts[1]}"
            )
        if not all(low < high for low, high in self.size_ranges):  # NaN fails here, too
            raise ValueError(f"size_ranges must be pairs of low < high, got {self.size_ranges}")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes holds a name twice")
        return self

    @model_validator(mode="after")
    def _unused_keep_their_defaults(self) -> Self:
        for name in FITS[self.method].unused:
            value, default = _find(self, name), _find(DEFAULTS, name)
            if value != default:
                raise ValueError(f"method {self.method} does not use {name}; leave it at {_shown(default)}")
        return self


DEFAULTS = ModelConfig.model_construct()


def _find(model: ModelConfig, name: str) -> Any:
    """The value of the setting `name`, such as head.convs."""
    value: Any = model
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _shown(value: object) -> str:
    return "its defaults" if isinstance(value, Section) else str(value).lower()
