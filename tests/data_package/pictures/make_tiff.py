"""TIFF and PNG files that Pillow reads but does not write, byte by byte."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SHORT, LONG = 3, 4  # types of TIFF
OFFSETS, COUNTS = 273, 279


class Page(NamedTuple):
    """tags: their values by number. planes: strips of equal size, one behind the other in `data`."""

    tags: dict[int, list[int]]
    data: bytes
    planes: int = 1


def grey_page(values: NDArray[Any], bits: int, sample_format: int, order: str = "<", photometric: int = 1) -> Page:
    """(H, W) values, as they lie in memory but for the order of their bytes."""
    height, width = values.shape
    tags = {256: [width], 257: [height], 258: [bits], 259: [1], 262: [photometric], 277: [1], 278: [height]}
    return Page(tags | {339: [sample_format]}, values.astype(values.dtype.newbyteorder(order)).tobytes())


def colour_page(values: NDArray[Any], planar: bool, order: str = "<", photometric: int = 2, extra: int = 0) -> Page:
    """(H, W, C) uint16 values."""
    height, width, bands = values.shape
    tags = {256: [width], 257: [height], 258: [16] * bands, 259: [1], 262: [photometric], 277: [bands], 278: [height]}
    tags |= {284: [2 if planar else 1]} | ({338: [extra]} if extra else {})
    laid = values.transpose(2, 0, 1) if planar else values
    return Page(tags, laid.astype(laid.dtype.newbyteorder(order)).tobytes(), bands if planar else 1)


def tiff(pages: Sequence[Page], order: str = "<") -> bytes:
    """A file of these pages, not compressed."""
    out = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    for number, page in enumerate(pages, 1):
        out += _directory(page, len(out), order, number == len(pages))
    return out


def _directory(page: Page, start: int, order: str, last: bool) -> bytes:
    tags = dict(page.tags) | {OFFSETS: [0] * page.planes, COUNTS: [len(page.data) // page.planes] * page.planes}
    kinds = {tag: LONG if tag in (256, 257, 278, OFFSETS, COUNTS) else SHORT for tag in tags}
    sizes = {tag: {SHORT: 2, LONG: 4}[kinds[tag]] * len(values) for tag, values in tags.items()}
    beyond = start + 2 + 12 * len(tags) + 4  # where values lie that are longer than four bytes
    data = beyond + sum(size for size in sizes.values() if size > 4)
    tags[OFFSETS] = [data + plane * len(page.data) // page.planes for plane in range(page.planes)]
    entries, extra = b"", b""
    for tag in sorted(tags):
        packed = struct.pack(order + "HI"[kinds[tag] - 3] * len(tags[tag]), *tags[tag])
        entries += struct.pack(order + "HHI", tag, kinds[tag], len(tags[tag]))
        if len(packed) > 4:
            entries += struct.pack(order + "I", beyond + len(extra))
            extra += packed
        else:
            entries += packed.ljust(4, b"\0")
    end = data + len(page.data)
    follows = struct.pack(order + "I", 0 if last else end + end % 2)
    return struct.pack(order + "H", len(tags)) + entries + follows + extra + page.data + b"\0" * (end % 2)


def png_16(values: NDArray[np.uint16]) -> bytes:
    """A PNG of (H, W, C): 2 grey with alpha, 3 RGB, 4 RGBA."""
    height, width, bands = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[bands], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def pack_12(values: NDArray[np.uint16]) -> bytes:
    """Two values of 12 bits in three bytes; the width is even."""
    first, second = values.reshape(-1, 2).T.astype(np.int64)
    three = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=1)
    return three.astype(np.uint8).tobytes()
