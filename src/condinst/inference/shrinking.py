"""Pictures that the network sees far smaller than they are."""

from __future__ import annotations

from condinst.data.pictures.values import Remark
from condinst.data.transforms import input_shape
from condinst.settings.prediction import InputConfig
from condinst.sources.read import Picture

LEAST_SCALE = 0.25  # of the network's input to the picture
LEAST_SIDE = 0.5  # of the resized shorter side to `input.shorter`, which nearly all training pictures have


def note_shrinking(picture: Picture, size: InputConfig) -> Picture:
    """The picture with a remark if resizing shrinks it so far that small objects may vanish.

    Example: a panorama of 10000×800 pixels becomes 1280×102 pixels at shorter=640 and longer=1280. The remark is added
    if the resized shorter side is below half of `size.shorter`, or if the picture shrinks to less than a quarter.
    """
    height, width = picture.size
    rows, columns = input_shape(height, width, size)
    scale = max(rows, columns) / max(height, width)
    if scale >= LEAST_SCALE and (scale >= 1 or min(rows, columns) >= LEAST_SIDE * size.shorter):
        return picture
    message = f"{width}×{height} pixels are reduced to {columns}×{rows} for the network, so it may miss small objects"
    remark = Remark(
        "shrunk-picture",
        message,
        "raise --size and --max-size (size= in Python, input.shorter and input.longer in training), or cut the picture "
        "into tiles with --tile PIXELS (tile= in Python)",
    )
    return picture._replace(remarks=(*picture.remarks, remark))
