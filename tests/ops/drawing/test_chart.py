"""Charts are well-formed SVG and show the given numbers at the right positions."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from condinst.ops.drawing.chart import Bar, Column, Line, Span, bars, below, curves, heat, plain, plot, scatter, shown

SVG = "{http://www.w3.org/2000/svg}"
EVIL = "<a & 'b' \"c\"> naïve 文字"


def parsed(svg: str) -> ET.Element:
    root = ET.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    return root


def words(root: ET.Element) -> list[str]:
    return [text.text or "" for text in root.iter(f"{SVG}text")]


def points(root: ET.Element) -> list[list[tuple[float, float]]]:
    """Of each curve, in pixels."""
    paths = [path.get("d", "") for path in root.iter(f"{SVG}path") if path.get("fill") == "none"]
    return [[(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", path)] for path in paths]


def test_names_are_escaped() -> None:
    charts = (
        bars(EVIL, EVIL, [Bar(EVIL, {EVIL: 1.0, "b": 2.0})]),
        plot(EVIL, EVIL, EVIL, [Line(EVIL, [(0, 0), (1, 1)])]),
        curves(EVIL, EVIL, EVIL, [Line(EVIL, [(1, 1), (10, 10)])]),
        heat(EVIL, EVIL, EVIL, [EVIL], [[1.0]], [[EVIL]]),
        scatter(EVIL, EVIL, EVIL, [(0.5, 0.5)]),
    )
    for chart in charts:
        assert EVIL in words(parsed(chart))


def test_bars_have_their_lengths() -> None:
    root = parsed(bars("", "ms", [Bar("a", {"x": 1.0, "y": 3.0}), Bar("b", {"x": 2.0})]))
    widths = [float(rect.get("width", "")) for rect in root.iter(f"{SVG}rect") if rect.get("height") == "16"]
    assert widths[1] == pytest.approx(3 * widths[0], abs=0.2)
    assert widths[2] == pytest.approx(2 * widths[0], abs=0.2)
    assert {"4 ms", "2 ms", "x", "y"} <= set(words(root))


def test_a_line_is_drawn_to_scale() -> None:
    chart = plot("", "", "", [Line("a", [(0, 0), (5, 10), (10, 20)])], x_span=Span(0, 20))
    (curve,) = points(parsed(chart))
    (x0, y0), (x1, y1), (x2, y2) = curve
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    assert (x2 - x0) == pytest.approx((590 - 70) / 2, abs=0.2)  # half of the span


def test_points_that_are_not_finite_are_left_out() -> None:
    line = Line("a", [(0, 1), (1, float("nan")), (2, float("inf")), (3, 2)])
    (curve,) = points(parsed(plot("", "", "", [line])))
    assert len(curve) == 2


@pytest.mark.parametrize(
    "values", [[], [(0.0, 0.0)], [(5.0, 3.0)], [(1.0, 1e-9), (2.0, 2e-9)], [(0.0, -5e6), (1.0, 3e7)]]
)
def test_any_range_can_be_drawn(values: list[tuple[float, float]]) -> None:
    root = parsed(plot("t", "x", "y", [Line("a", values)]))
    for curve in points(root):
        for x, y in curve:
            assert 70 <= x <= 590
            assert 48 <= y <= 338


def test_columns_stand_on_the_axis() -> None:
    root = parsed(plot("", "", "", [], [Column(0, 0.5, 0.25), Column(0.5, 1, 1)], Span(0, 1), Span(0, 1)))
    tall = [float(rect.get("height", "")) for rect in root.iter(f"{SVG}rect") if rect.get("fill-opacity")]
    assert tall[1] == pytest.approx(4 * tall[0], abs=0.2)


def test_heat_map_opacity_follows_the_shares() -> None:
    root = parsed(heat("", "", "", ["a", "b"], [[1.0, 0.0], [0.5, 0.2]], [["9", ""], ["5", "2"]]))
    shades = [float(rect.get("fill-opacity", "")) for rect in root.iter(f"{SVG}rect") if rect.get("fill-opacity")]
    assert shades[0] > shades[1] > shades[2]
    assert len(shades) == 3
    assert {"9", "5", "2"} <= set(words(root))
    many = [f"class {index}" for index in range(80)]
    large = parsed(heat("", "", "", many, [[0.5] * 80] * 80, [["123"] * 80] * 80))
    assert "123" not in words(large)  # no room
    assert float(large.get("height", "")) < 800


def test_below_stacks() -> None:
    first, second = plot("a", "", "", []), scatter("b", "", "", [(0.1, 0.2)])
    root = parsed(below([first, second]))
    inner = root.findall(f"{SVG}svg")
    assert [part.get("y") for part in inner] == ["0", inner[0].get("height")]
    assert float(root.get("height", "")) == sum(float(part.get("height", "")) for part in inner)


def test_charts_on_a_page_use_the_text_colour_of_the_page() -> None:
    assert 'fill="#fff"' in plot("", "", "", [])
    assert 'fill="#fff"' not in plot("", "", "", [], paper=False)


def test_numbers() -> None:
    assert [plain(value) for value in (0.12345, 12.345, 1234.5, -1234.5)] == ["0.123", "12.3", "1,234", "-1,234"]
    assert [shown(value) for value in (-1, 0, 0.12345)] == ["–", "0.000", "0.123"]


@pytest.mark.parametrize("value", [1e-300, 5e-324, 1e-15, 1e300])
def test_values_beyond_the_digits_of_ticks(value: float) -> None:
    assert plot("title", "x", "y", [Line("name", [(1, value), (2, value / 2)])]).startswith("<svg")
