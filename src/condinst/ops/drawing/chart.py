"""Charts as SVG text. The same numbers always give the same bytes.

With `paper=True` a chart has a white background. With `paper=False` it takes the text colour of the page around it, so
it fits light and dark pages.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

WIDTH, ROW, LABEL = 760, 22, 210  # pixels: width of a chart, height of a bar with its gap, width of the bars' names
HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 388, 70, 170, 48, 50  # pixels: height of a plot, and its margins
COLOURS = (
    *("#8c8c8c", "#1f77b4", "#d95f02", "#1b9e77", "#7570b3"),
    *("#a6761d", "#e7298a", "#66a61e", "#17becf", "#b22222"),
)
STYLE = (
    "text{font:13px sans-serif;fill:currentColor}.t{font-size:15px;font-weight:bold}"
    ".s{font-size:12px;fill-opacity:.75}.g{stroke:currentColor;stroke-opacity:.15}"
)
# Pixels: side of a heat map, largest side of a cell, smallest side of a cell with text.
MAP, LARGEST_CELL, WRITTEN_CELL = 560, 56, 30
LETTERS = 24  # longest name beside a heat map
MARKS = 30  # a curve of at most this many points marks each of them


class Bar(NamedTuple):
    """A horizontal bar. parts: the lengths of its parts by name, drawn from left to right."""

    name: str
    parts: Mapping[str, float]


class Line(NamedTuple):
    """A curve. points: (x, y), above 0 on logarithmic axes. dashed: draw a dashed line, for a reference."""

    name: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


class Column(NamedTuple):
    """A vertical bar that covers the x axis from `low` to `high`."""

    low: float
    high: float
    height: float


class Span(NamedTuple):
    """The smallest range that an axis shows."""

    low: float
    high: float


def bars(title: str, unit: str, rows: Sequence[Bar], paper: bool = True) -> str:
    """Horizontal bars. Parts with the same name have the same colour; a key below the bars names the colours."""
    longest = max((sum(row.parts.values()) for row in rows), default=0) or 1
    scale = (WIDTH - LABEL - 100) / longest
    names = list(dict.fromkeys(name for row in rows for name in row.parts))
    body = [_text(10, 24, title, "t")]
    for index, row in enumerate(rows):
        y, x = TOP + index * ROW, float(LABEL)
        body.append(_text(LABEL - 8, y + 13, _cut(row.name, 28), anchor="end"))
        for name, length in row.parts.items():
            colour = _colour(names.index(name) + (len(names) == 1))  # a single name gets a colour other than grey
            body.append(f'<rect x="{x:.1f}" y="{y}" width="{length * scale:.1f}" height="{ROW - 6}" fill="{colour}"/>')
            x += length * scale
        body.append(_text(x + 6, y + 13, f"{plain(sum(row.parts.values()))} {unit}".strip(), "s"))
    if len(names) <= 1:
        return _picture(TOP + len(rows) * ROW + 4, body, paper)
    key_y, x = TOP + len(rows) * ROW + 16, 10.0
    for index, name in enumerate(names):
        body.append(f'<rect x="{x:.1f}" y="{key_y - 10}" width="11" height="11" fill="{_colour(index)}"/>')
        body.append(_text(x + 16, key_y, name, "s"))
        x += 34 + 7 * len(name)
    return _picture(key_y + 12, body, paper)


def curves(title: str, x_name: str, y_name: str, lines: Sequence[Line], paper: bool = True) -> str:
    """Lines on logarithmic axes. A cost that is proportional to x has slope 1."""
    xs, ys = _values(lines)
    across = _Logarithmic(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    up = _Logarithmic(min(ys), max(ys), HEIGHT - BOTTOM, TOP)
    return _picture(HEIGHT, [*_frame(title, x_name, y_name, across, up), *_drawn(lines, across, up)], paper)


def plot(
    title: str,
    x_name: str,
    y_name: str,
    lines: Sequence[Line],
    columns: Sequence[Column] = (),
    x_span: Span | None = None,
    y_span: Span | None = None,
    paper: bool = True,
) -> str:
    """Lines and columns on linear axes that include both spans. Points that are not finite are left out."""
    lines = [line._replace(points=[point for point in line.points if all(map(math.isfinite, point))]) for line in lines]
    xs, ys = _values(lines)
    xs += [*(side for column in columns for side in column[:2]), *(x_span or ())]
    ys += [*(column.height for column in columns), *([0] if columns else []), *(y_span or ())]
    across = _Linear(min(xs, default=0), max(xs, default=1), LEFT, WIDTH - RIGHT)
    up = _Linear(min(ys, default=0), max(ys, default=1), HEIGHT - BOTTOM, TOP)
    body = _frame(title, x_name, y_name, across, up)
    for low, high, height in columns:
        x, y, width = across.place(low), up.place(height), across.place(high) - across.place(low)
        tall = up.place(0) - y
        body.append(
            f'<rect x="{x + 0.5:.1f}" y="{y:.1f}" width="{max(width - 1, 1):.1f}" height="{tall:.1f}" '
            f'fill="{COLOURS[1]}" fill-opacity=".6"/>'
        )
    return _picture(HEIGHT, [*body, *_drawn(lines, across, up)], paper)


def scatter(title: str, x_name: str, y_name: str, points: Sequence[tuple[float, float]], paper: bool = True) -> str:
    """A scatter plot of points (x, y) in [0, 1]. The y axis points down, as in a picture."""
    across, down = _Linear(0, 1, LEFT, WIDTH - RIGHT), _Linear(0, 1, TOP, HEIGHT - BOTTOM)
    spots = "".join(f"M{across.place(x):.1f} {down.place(y):.1f}h0" for x, y in points)
    path = f'<path d="{spots}" stroke="{COLOURS[1]}" stroke-width="4" stroke-linecap="round" stroke-opacity=".35"/>'
    return _picture(HEIGHT, [*_frame(title, x_name, y_name, across, down), path], paper)


def below(charts: Sequence[str]) -> str:
    """Join charts into one chart, from top to bottom."""
    top, parts = 0.0, []
    for chart in charts:
        parts.append(chart.replace("<svg ", f'<svg y="{top:.0f}" ', 1))
        top += float(chart.partition('height="')[2].partition('"')[0])
    return _picture(top, parts, paper=True)


def heat(
    title: str,
    x_name: str,
    y_name: str,
    names: Sequence[str],
    shares: Sequence[Sequence[float]],
    words: Sequence[Sequence[str]],
    paper: bool = True,
) -> str:
    """A heat map whose rows and columns have the same `names`. A share near 1 gives a dark cell.

    shares: values in [0, 1]. words: the texts of the cells, shown in cells that are large enough.
    """
    cell = min(LARGEST_CELL, MAP / max(len(names), 1))
    size = min(12.0, max(cell - 1, 4))
    written = min(max((len(name) for name in names), default=0), LETTERS) * size * 0.58
    left, top, side = max(written + 16, 90), 62.0, cell * len(names)
    body = [
        _text(10, 24, title, "t"),
        _text(left - 6, 50, f"{y_name} ↓", "s", "end"),
        _text(left, 50, f"{x_name} →", "s"),
    ]
    for row, values in enumerate(shares):
        y = top + row * cell
        body.append(_text(left - 6, y + cell / 2 + size / 3, _cut(names[row], LETTERS), "s", "end", size))
        body += [
            part
            for column, share in enumerate(values)
            for part in _cell(left + column * cell, y, cell, share, words[row][column])
        ]
    for column, name in enumerate(names):
        x, y = left + (column + 0.5) * cell + size / 3, top + side + 6
        turned = f'transform="translate({x:.1f} {y:.1f}) rotate(-90)" text-anchor="end" class="s"'
        body.append(f'<text {turned} style="font-size:{size:.0f}px">{_escaped(_cut(name, LETTERS))}</text>')
    body += [
        f'<path d="M{left:.1f} {top + step * side:.1f}h{side:.1f}M{left + step * side:.1f} {top:.1f}v{side:.1f}" '
        'class="g"/>'
        for step in (0, 1)
    ]
    return _picture(top + side + written + 16, body, paper)


def plain(value: float) -> str:
    """A number with three significant digits and no exponent."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def shown(value: float) -> str:
    """A score with three decimals. A negative score, such as COCO's −1 for "not measured", becomes a dash."""
    return "–" if value < 0 else f"{value:.3f}"


class _Logarithmic:
    """A logarithmic axis from `low` to `high`, drawn from pixel `start` to pixel `end`."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high = math.log10(low) - 0.05, math.log10(high) + 0.05
        self.start, self.end = start, end

    def place(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """The values 1, 3, 10, 30, … inside the axis."""
        powers = range(math.floor(self.low), math.ceil(self.high) + 1)
        values = [digit * 10.0**power for power in powers for digit in (1, 3)]
        return [value for value in values if self.low <= math.log10(value) <= self.high]


class _Linear:
    """A linear axis from a tick at or below `low` to a tick at or above `high`."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        rough = ((high - low) or abs(high) or 1) / 6 or 1  # the smallest floats become 0
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(digit * power for digit in (1, 2, 2.5, 5, 10) if digit * power >= rough * (1 - 1e-9))
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        self.ticks = [round(index * step, 12) for index in range(first, max(last, first + 1) + 1)]
        self.start, self.end = start, end

    def place(self, value: float) -> float:
        share = (value - self.ticks[0]) / ((self.ticks[-1] - self.ticks[0]) or 1)  # tiny values round to equal ticks
        return self.start + share * (self.end - self.start)


_Axis = _Linear | _Logarithmic


def _values(lines: Sequence[Line]) -> tuple[list[float], list[float]]:
    points = [point for line in lines for point in line.points]
    return [x for x, _ in points], [y for _, y in points]


def _frame(title: str, x_name: str, y_name: str, across: _Axis, up: _Axis) -> list[str]:
    """The title, the names of the axes, the ticks and the grid."""
    body = [_text(10, 24, title, "t")]
    for value in across.ticks:
        x = across.place(value)
        body.append(f'<path d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}" class="g"/>')
        body.append(_text(x, HEIGHT - BOTTOM + 18, plain(value), "s", "middle"))
    for value in up.ticks:
        y = up.place(value)
        body.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" class="g"/>')
        body.append(_text(LEFT - 8, y + 4, plain(value), "s", "end"))
    body.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_name, anchor="middle"))
    body.append(_text(LEFT, TOP - 4, y_name, "s"))
    return body


def _drawn(lines: Sequence[Line], across: _Axis, up: _Axis) -> list[str]:
    """The curves and their key."""
    body = []
    for index, line in enumerate(line for line in lines if line.points):
        colour, key_y = _colour(index + (len(lines) == 1 and not line.dashed)), TOP + 12 + index * 20
        broken = ' stroke-dasharray="6 4"' if line.dashed else ""
        places = [(across.place(x), up.place(y)) for x, y in line.points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        body.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"{broken}/>')
        if len(places) <= MARKS and not line.dashed:
            body += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in places]
        body.append(f'<rect x="{WIDTH - RIGHT + 14}" y="{key_y - 10}" width="11" height="11" fill="{colour}"/>')
        body.append(_text(WIDTH - RIGHT + 30, key_y, _cut(line.name, 22), "s"))
    return body


def _cell(x: float, y: float, side: float, share: float, words: str) -> list[str]:
    """A cell of a heat map with its text. A cell without text is not drawn."""
    if not words:
        return []
    place = f'x="{x:.1f}" y="{y:.1f}" width="{side:.1f}" height="{side:.1f}"'
    square = f'<rect {place} fill="{COLOURS[1]}" fill-opacity="{0.06 + 0.94 * share:.2f}"/>'
    if side < WRITTEN_CELL:
        return [square]
    white = ' style="fill:#fff;fill-opacity:1"' if share > 0.5 else ""
    middle = f'x="{x + side / 2:.1f}" y="{y + side / 2 + 4:.1f}" text-anchor="middle"'
    return [square, f'<text {middle} class="s"{white}>{_escaped(words)}</text>']


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _cut(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _escaped(words: str) -> str:
    return html.escape(words, quote=False)


def _text(x: float, y: float, words: str, kind: str = "", anchor: str = "start", size: float = 0) -> str:
    style = f' class="{kind}"' if kind else ""
    style += f' style="font-size:{size:.0f}px"' if size else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{_escaped(words)}</text>'


def _picture(height: float, body: Sequence[str], paper: bool) -> str:
    ink = ' color="#222"' if paper else ""
    sizes = f'width="{WIDTH}" height="{height:.0f}" viewBox="0 0 {WIDTH} {height:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {sizes} role="img"{ink}>'
    ground = ['<rect width="100%" height="100%" fill="#fff"/>'] if paper else []
    return "\n".join([head, f"<style>{STYLE}</style>", *ground, *body, "</svg>\n"])
