"""Fonts for captions. Pillow's own font covers ASCII only, so other text needs a font of the system."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Common fonts of Linux, macOS and Windows. Pillow searches the font folders of the system.
SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "Arial Unicode.ttf",
    "arial.ttf",
    "Arial.ttf",
    "NotoSansCJK-Regular.ttc",
    "wqy-microhei.ttc",
    "DroidSansFallbackFull.ttf",
    "PingFang.ttc",
    "msyh.ttc",
    "msgothic.ttc",
)
MISSING = "\uffff"  # no font has it, so it looks like any missing character


def font_for(text: str, size: int) -> tuple[Font, str]:
    """A font of `size` pixels for `text`, and the text to write with it.

    If no font on this machine has all characters, accents are dropped, and other unknown characters become "?".
    """
    if text.isascii():
        return ImageFont.load_default(size=size), text
    for name in SYSTEM_FONTS:
        font = _system_font(name, size)
        if font is not None and not any(_is_missing(font, sign) for sign in set(text) if not sign.isspace()):
            return font, text
    plain = unicodedata.normalize("NFKD", text)
    plain = "".join(sign if sign.isascii() else "?" for sign in plain if not unicodedata.combining(sign))
    return ImageFont.load_default(size=size), plain


@lru_cache(maxsize=64)
def _system_font(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


def _is_missing(font: ImageFont.FreeTypeFont, sign: str) -> bool:
    return bytes(font.getmask(sign)) == bytes(font.getmask(MISSING))
