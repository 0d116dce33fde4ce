"""The settings of prediction: the size of the input and the choice of instances."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from condinst.settings.kinds import FULL, MOST_DETECTIONS, AboveZero, Fraction, Range, Section, Side

# The lowest score that pictures and tables show by default. The nuclei model has its best F1 on its training pictures
# at this score.
SHOWN_SCORE = 0.5


class DetectConfig(Section):
    """Detection: how the head's output becomes a list of instances (paper §3.4)."""

    # Lowest score of a candidate. With score_root it is compared with class probability × centerness, otherwise with
    # the class probability.
    score_threshold: Fraction = 0.05
    # The score of an instance is the square root of class probability × centerness. With false it is the product, as in
    # mmdetection.
    score_root: bool = True
    # Most candidates of each pyramid level that reach the suppression of duplicates. When masks are compared: most
    # candidates of all levels together.
    candidates_per_level: Annotated[int, Field(ge=1, le=100_000)] = 1000
    # How duplicates are suppressed: by the IoU of boxes, by the IoU of masks, or by Matrix NMS on masks.
    nms: Literal["box", "mask", "matrix"] = "box"
    # IoU with a better candidate of the same class above which a candidate is dropped. Matrix NMS ignores it. With
    # yolact, box is Fast NMS: dropped candidates drop others, too, and the best 200 of each class take part.
    nms_threshold: Fraction = 0.6
    # For the SOLO family: lowest score of an instance after Matrix NMS.
    decayed_threshold: Fraction = 0.05
    # Most instances in a picture.
    max_detections: Annotated[int, Field(ge=1, le=MOST_DETECTIONS)] = 100
    # Probability above which a pixel belongs to the mask.
    mask_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    # For rtmdet-ins: exchange the factors of height and width when masks are enlarged to the picture, as mmdetection
    # does. It shifts masks by a part of a pixel. In pictures that are many times longer than wide, it leaves the end of
    # the picture without a mask.
    exchange_scales: bool = False


Resampling = Literal["pillow", "opencv"]


class SeenConfig(Section):
    """What the training pictures looked like at the size of `input`. condinst measures it when training starts."""

    # Pixels of the network's input for each pixel of a picture: the median over the training pictures.
    scale: AboveZero
    # The same for the picture that was shrunk most, without the outermost hundredth.
    least_scale: AboveZero
    # Pixels of the network's input: the root of the box area of a small object. A tenth of the objects is smaller.
    small_side: AboveZero
    # The same for the object in the middle.
    middle_side: AboveZero


SMALLEST_TILE, LARGEST_TILE = 32, 65_536  # pixels of the side of a tile
TileSide = Annotated[int, Field(ge=SMALLEST_TILE, le=LARGEST_TILE)]


def _as_word(value: object) -> object:
    """YAML reads off as False."""
    return "off" if value is False else value


class InputConfig(Section):
    """The size of the image that the network sees, and the values in a file that become black and white.

    The shorter side gets `shorter` pixels, or fewer where the other side would become longer than `longer`.
    """

    # Length of the shorter side after resizing, in pixels.
    shorter: Side = 800
    # Largest length of the longer side after resizing, in pixels.
    longer: Side = 1333
    # Pad every picture to a square with sides of `longer` pixels.
    letterbox: bool = False
    # Resize every picture to a square with sides of `longer` pixels, whatever the ratio of its sides. `shorter` has the
    # same value. Only for yolact, which needs it.
    stretch: bool = False
    # The bilinear filter that resizes pictures. pillow averages where it shrinks; opencv mixes four pixels in any case.
    resampling: Resampling = "pillow"
    # Pixel values that become black and white in pictures of 16 or 32 bits or of floats. full: 0 and 65535. auto: the
    # 0.1th and the 99.9th percentile of each picture. Or two numbers, such as [0, 4095]. 8-bit pictures do not change.
    range: Range = FULL
    # Cut large pictures into square tiles with sides of this many pixels of the picture. auto: where the whole picture
    # would be shrunk so far that objects like those in training vanish. off: never.
    tile: Annotated[Annotated[int, Field(ge=32, le=65_536)] | Literal["auto", "off"], BeforeValidator(_as_word)] = (
        "auto"
    )
    # What neighbouring tiles share: a part of the side below 1, or pixels. At most half of the side.
    overlap: Annotated[float, Field(ge=0, le=32_768)] = 0.2
    # What the training pictures looked like, or null where it is unknown.
    seen: SeenConfig | None = None

    @model_validator(mode="after")
    def _stretch_is_square(self) -> Self:
        if self.stretch and self.letterbox:
            raise ValueError("stretch and letterbox exclude each other; set one of them to false")
        if self.stretch and self.shorter != self.longer:
            raise ValueError(f"stretch needs shorter = longer, got {self.shorter} and {self.longer}")
        return self
