"""The file of the page: it needs no other address and works under a strict content security policy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import condinst

PAGE = (Path(condinst.__file__).parent / "serve" / "page" / "index.html").read_text(encoding="utf-8")
MARKUP = re.sub(r"<(style|script)>.*?</\1>", "", PAGE, flags=re.DOTALL)
STYLE = re.findall(r"<style>(.*?)</style>", PAGE, re.DOTALL)
SCRIPT = re.findall(r"<script>(.*?)</script>", PAGE, re.DOTALL)


def test_one_style_and_one_script() -> None:
    assert len(STYLE) == len(SCRIPT) == 1
    assert len(re.findall(r"<(?:style|script)\b", PAGE)) == 2


def test_no_inline_handlers_and_styles() -> None:
    assert re.findall(r"\s(?:on[a-z]+|style)\s*=", MARKUP) == []


def test_no_outside_address() -> None:
    addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"'`]*", PAGE))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name space, never fetched
    assert re.findall(r"@import|url\(|(?:src|href)=\"(?!#|data:)", STYLE[0] + MARKUP) == []


def test_text_from_outside_never_becomes_markup() -> None:
    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", SCRIPT[0]) == []


def test_every_control_has_a_name() -> None:
    labelled = set(re.findall(r'<label[^>]* for="([\w-]+)"', MARKUP))
    for tag in re.findall(r"<(?:input|select)\b[^>]*>", MARKUP):
        name = re.search(r'id="([\w-]+)"', tag)
        wrapped = f"<label>{tag}" in MARKUP or f'<label class="tick">{tag}' in MARKUP
        assert "aria-label=" in tag or wrapped or (name and name[1] in labelled), tag
    for button in re.findall(r"<button\b.*?</button>", MARKUP, re.DOTALL):
        text = re.sub(r"<[^>]*>", "", button).strip()
        assert text or "aria-label=" in button or 'id="restore"' in button or 'id="all-classes"' in button, button


def colours(selector: str) -> dict[str, str]:
    block = re.search(re.escape(selector) + r" \{(.*?)\}", STYLE[0], re.DOTALL)
    assert block is not None
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})\b", block[1]))


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    levels = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [level / 12.92 if level <= 0.03928 else ((level + 0.055) / 1.055) ** 2.4 for level in levels]
    return sum(weight * level for weight, level in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("selector", [":root", ':root[data-theme="dark"]'])
def test_contrast(selector: str) -> None:
    """WCAG 2 AA: 4.5 for text and 3 for the borders of fields."""
    of = colours(selector)
    texts = [(ink, paper) for ink in ("ink", "dim", "accent") for paper in ("card", "stage", "soft")]
    pairs = [*texts, ("accent", "tint"), ("ink", "tint"), ("on-accent", "accent"), ("bad", "bad-tint")]
    for front, back in pairs:
        lighter, darker = sorted((luminance(of[front]), luminance(of[back])), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (front, back)
    lighter, darker = sorted((luminance(of["firm"]), luminance(of["card"])), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 3
