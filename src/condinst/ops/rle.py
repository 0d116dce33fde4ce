"""Run lengths. The code is in `condinst.ops.bitmaps.rle`; programs outside the package import it from here."""

from __future__ import annotations

from condinst.ops.bitmaps.rle import Region, Rle, areas, decode, decode_region, draw_polygons, encode, tighten

__all__ = ["Region", "Rle", "areas", "decode", "decode_region", "draw_polygons", "encode", "tighten"]
