"""Plots as SVG text, written by hand so that the same numbers always give the same bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, ROW, LABEL = 760, 22, 210  # pixels: of the picture, of a bar with its gap, of the names left of bars
HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 380, 70, 170, 40, 50  # of line plots and their margins
COLOURS = ("#8c8c8c", "#1f77b4", "#d95f02", "#1b9e77", "#7570b3", "#a6761d")
STYLE = "text{font:13px sans-serif;fill:#222}.t{font-size:15px;font-weight:bold}.s{font-size:12px;fill:#555}"


class Bar(NamedTuple):
    """A bar, made of parts laid end to end: lengths by name."""

    name: str
    parts: Mapping[str, float]


class Line(NamedTuple):
    """A curve: points (x, y), both above 0."""

    name: str
    points: Sequence[tuple[float, float]]


def bars(title: str, unit: str, rows: Sequence[Bar]) -> str:
    """Horizontal bars on one scale; parts of one name have one colour, named in the key below."""
    longest = max(sum(row.parts.values()) for row in rows)
    scale = (WIDTH - LABEL - 100) / longest
    names = list(dict.fromkeys(name for row in rows for name in row.parts))
    body = [_text(10, 24, title, "t")]
    for index, row in enumerate(rows):
        y, x = TOP + index * ROW, float(LABEL)
        body.append(_text(LABEL - 8, y + 13, row.name, anchor="end"))
        for name, length in row.parts.items():
            colour = COLOURS[names.index(name) % len(COLOURS)]
            body.append(f'<rect x="{x:.1f}" y="{y}" width="{length * scale:.1f}" height="{ROW - 6}" fill="{colour}"/>')
            x += length * scale
        body.append(_text(x + 6, y + 13, f"{plain(sum(row.parts.values()))} {unit}", "s"))
    key_y, x = TOP + len(rows) * ROW + 16, 10.0
    for index, name in enumerate(names if len(names) > 1 else []):
        body.append(
            f'<rect x="{x:.1f}" y="{key_y - 10}" width="11" height="11" fill="{COLOURS[index % len(COLOURS)]}"/>'
        )
        body.append(_text(x + 16, key_y, name, "s"))
        x += 34 + 7 * len(name)
    return _page(key_y + 12, body)


def curves(title: str, x_name: str, y_name: str, lines: Sequence[Line]) -> str:
    """Lines with a mark at each point, both axes logarithmic, so that a proportional cost is a slope of one."""
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    across = _Axis(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    up = _Axis(min(ys), max(ys), HEIGHT - BOTTOM, TOP)
    body = [_text(10, 24, title, "t")]
    for value in across.ticks:
        x = across.place(value)
        body.append(f'<path d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#ddd"/>')
        body.append(_text(x, HEIGHT - BOTTOM + 18, plain(value), "s", "middle"))
    for value in up.ticks:
        y = up.place(value)
        body.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        body.append(_text(LEFT - 8, y + 4, plain(value), "s", "end"))
    body.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_name, anchor="middle"))
    body.append(_text(LEFT, TOP - 4, y_name, "s"))
    for index, line in enumerate(lines):
        colour = COLOURS[index % len(COLOURS)]
        places = [(across.place(x), up.place(y)) for x, y in line.points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        body.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        body += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in places]
        key_y = TOP + 12 + index * 20
        body.append(f'<rect x="{WIDTH - RIGHT + 14}" y="{key_y - 10}" width="11" height="11" fill="{colour}"/>')
        body.append(_text(WIDTH - RIGHT + 30, key_y, line.name, "s"))
    return _page(HEIGHT, body)


def plain(value: float) -> str:
    """Three significant digits, no exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


class _Axis:
    """A logarithmic axis from `low` to `high`, drawn from pixel `start` to `end`."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high = math.log10(low) - 0.05, math.log10(high) + 0.05
        self.start, self.end = start, end

    def place(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """1, 3, 10, 30 … inside."""
        powers = range(math.floor(self.low), math.ceil(self.high) + 1)
        values = [digit * 10.0**power for power in powers for digit in (1, 3)]
        return [value for value in values if self.low <= math.log10(value) <= self.high]


def _text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{escape(words)}</text>'


def _page(height: float, body: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" role="img">'
    return "\n".join(
        [head, f"<style>{STYLE}</style>", '<rect width="100%" height="100%" fill="#fff"/>', *body, "</svg>\n"]
    )
