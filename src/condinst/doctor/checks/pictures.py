"""Checks the file of one picture: decoding, size, orientation, and the fingerprint."""

from __future__ import annotations

from condinst.data.findings import Finding, Report, Severity
from condinst.data.pictures.decode import SIDEWAYS
from condinst.data.pictures.image import MAX_PIXELS, Reading, read_picture
from condinst.data.pictures.values import NoRangeError
from condinst.data.sample import Array8, Sample
from condinst.doctor.checks.copies import Fingerprint, fingerprint
from condinst.errors import DataError
from condinst.settings.kinds import FULL, Range


def check_picture(
    sample: Sample, tell: Report, max_pixels: int = MAX_PIXELS, range: Range = FULL
) -> Fingerprint | None:
    """Decode the file upright and report its problems. Return None if it cannot be decoded."""
    try:
        decoded = read_picture(sample.path, reading=Reading(None, range, max_pixels))
    except NoRangeError as error:
        message, _, remedy = str(error).removeprefix(f"{sample.path}: ").partition("; ")
        tell(Finding("no-range", "error", sample.path, sample.image_id, message, remedy))
        return None
    except DataError as error:
        message = str(error).removeprefix(f"{sample.path}: ").partition("; ")[0]
        gone = not sample.path.is_file()
        kind, remedy = (
            ("missing-picture", "put it there") if gone else ("damaged-picture", "replace or remove the file")
        )
        tell(Finding(kind, "error", sample.path, sample.image_id, message, remedy))
        return None
    image = decoded.pixels
    for remark in decoded.remarks:
        severity: Severity = "info" if remark.kind == "further-pictures" else "warning"
        tell(Finding(remark.kind, severity, sample.path, sample.image_id, remark.message, remark.remedy))
    _check_size(sample, image, tell)
    if decoded.orientation > 1:
        _tell_turned(sample, decoded.orientation, tell)
    if image.max() == image.min():
        message = f"every pixel has the value {image.max()}"
        tell(
            Finding(
                "blank-picture", "warning", sample.path, sample.image_id, message, "check how the picture was saved"
            )
        )
    return fingerprint(image)


def _check_size(sample: Sample, image: Array8, tell: Report) -> None:
    height, width = image.shape[:2]
    if (height, width) != (sample.height, sample.width):
        message = f"has {width}×{height} pixels (upright), its annotation says {sample.width}×{sample.height}"
        tell(Finding("wrong-size", "error", sample.path, sample.image_id, message, "correct the record or the file"))


def _tell_turned(sample: Sample, orientation: int, tell: Report) -> None:
    """Report a picture with an EXIF orientation.

    The sizes show whether the annotation is upright only if the orientation swaps the sides.
    """
    message = f"is rotated by its EXIF orientation {orientation}"
    if orientation in SIDEWAYS and sample.width != sample.height:
        message += ", like its annotation"
        remedy = "nothing to do, but other programs may not rotate it"
        tell(Finding("exif-rotated", "info", sample.path, sample.image_id, message, remedy))
        return
    message += "; the sizes do not show whether its annotation is rotated, too"
    remedy = "check the positions of the objects, then save the picture upright"
    tell(Finding("exif-rotated", "warning", sample.path, sample.image_id, message, remedy))
