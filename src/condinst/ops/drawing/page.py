"""HTML pages in a single file, without scripts and without network access. They suit phones, print and dark mode.

All functions escape plain text. They insert `Html`, the type that they return, unchanged.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --dim: #5b6470; --line: #d5dae0; --paper: #fff; --soft: #f3f5f7;
  --error: #b3261e; --warning: #8a5a00; --info: #2457a6; --bar: #4c8bd6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --dim: #9aa4b0; --line: #3a424c; --paper: #14181d;
  --soft: #1e242b; --error: #ff8a80; --warning: #ffcb6b; --info: #8ab4f8; --bar: #5b9be6; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 72rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.25; } h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .25rem; } p { margin: .5rem 0; }
.wide { overflow-x: auto; } table { border-collapse: collapse; margin: .75rem 0; font-size: .93rem; }
th, td { padding: .3rem .7rem; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top;
  min-width: 4.5rem; max-width: 30rem; overflow-wrap: break-word; }
th { background: var(--soft); white-space: nowrap; } .number { text-align: right; font-variant-numeric: tabular-nums;
  white-space: nowrap; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; margin: .75rem 0; align-items: flex-start; }
figure { margin: 0; max-width: 100%; } figcaption { color: var(--dim); font-size: .88rem; max-width: 34rem; }
img, svg { max-width: 100%; height: auto; display: block; } img { background: var(--soft); }
table.bars { width: 100%; max-width: 44rem; } table.bars td { border: 0; padding: .1rem .7rem .1rem 0; }
.bars td:first-child { min-width: 8rem; max-width: 18rem; } .bars .bar { width: 50%; vertical-align: middle; }
.bars i { display: block; height: .95rem; background: var(--bar); border-radius: 2px; }
.error { color: var(--error); font-weight: 600; } .warning { color: var(--warning); font-weight: 600; }
.info { color: var(--info); } .dim { color: var(--dim); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .75rem; margin: 1rem 0; }
.cards div { background: var(--soft); border-radius: 8px; padding: .6rem .9rem; font-size: .88rem; color: var(--dim);
  line-height: 1.35; } .cards b { display: block; font-size: 1.7rem; line-height: 1.2; color: var(--ink); }
.cards b + span { color: var(--ink); display: block; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 0 1.5rem; }
.columns h2 { margin-top: 1rem; } .small { display: grid; grid-template-columns: repeat(3, 1fr); gap: .6rem; }
.small figcaption { font-size: .78rem; line-height: 1.3; }
@media (max-width: 40rem) { .cards { grid-template-columns: 1fr 1fr; } h1 { font-size: 1.35rem; }
  .wide svg { max-width: none; width: 40rem; } td { max-width: 16rem; } }
@media print { body { max-width: none; } figure, tr { break-inside: avoid; } }
"""


class Html(str):
    """Markup that is safe to insert into a page."""

    __slots__ = ()


Part = str | Html  # a plain string is a paragraph of text


def page(title: str, parts: Iterable[Part]) -> str:
    """A complete HTML document."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{_text(title)}</h1>\n"
        f"{_joined(parts)}\n</body>\n</html>\n"
    )


def section(title: str, parts: Iterable[Part], level: int = 2) -> Html:
    """A heading with the parts below it. level: 2 for a chapter, 3 for a section of a chapter."""
    return Html(f"<section>\n<h{level}>{_text(title)}</h{level}>\n{_joined(parts)}\n</section>")


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], numbers_from: int | None = None) -> Html:
    """A table that scrolls sideways if it is too wide. Columns from `numbers_from` on are aligned to the right."""

    def line(tag: str, cells: Sequence[object]) -> str:
        marks = ["" if numbers_from is None or i < numbers_from else ' class="number"' for i in range(len(cells))]
        inside = "".join(f"<{tag}{mark}>{_text(cell)}</{tag}>" for cell, mark in zip(cells, marks, strict=True))
        return f"<tr>{inside}</tr>"

    body = "\n".join(line("td", row) for row in rows)
    return Html(
        f'<div class="wide"><table>\n<thead>{line("th", headers)}</thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'
    )


def picture(content: bytes, alt: str, caption: str = "") -> Html:
    """A JPEG or PNG file, embedded in the page. Raises ValueError for other bytes."""
    if content.startswith(b"\xff\xd8\xff"):
        kind = "jpeg"
    elif content.startswith(b"\x89PNG\r\n\x1a\n"):
        kind = "png"
    else:
        raise ValueError("picture: expected the bytes of a JPEG or PNG file")
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
    return _figure(f'<img src="{source}" alt="{_text(alt)}" loading="lazy">', caption)


def drawing(svg: str, caption: str = "") -> Html:
    """An SVG element. The caller must escape the text in it. On a phone, it keeps its size and scrolls sideways."""
    return _figure(f'<div class="wide">{svg}</div>', caption)


def pictures(parts: Iterable[Html]) -> Html:
    """Pictures and drawings side by side, in as many columns as fit."""
    return Html(f'<div class="pictures">\n{_joined(parts)}\n</div>')


def small_pictures(parts: Iterable[Html]) -> Html:
    """Pictures in three columns that fill the available width."""
    return Html(f'<div class="small">\n{_joined(parts)}\n</div>')


def columns(parts: Iterable[Html]) -> Html:
    """Sections side by side on a wide screen, and one below another on a narrow screen."""
    return Html(f'<div class="columns">\n{_joined(parts)}\n</div>')


def cards(rows: Iterable[tuple[str, str, str]]) -> Html:
    """Large numbers. rows: (value, name of the value, note in small letters)."""
    inside = "\n".join(
        f"<div><b>{_text(value)}</b><span>{_text(name)}</span> {_text(note)}</div>" for value, name, note in rows
    )
    return Html(f'<div class="cards">\n{inside}\n</div>')


def bars(rows: Sequence[tuple[str, float]], shown: Sequence[str] | None = None) -> Html:
    """A horizontal bar for each (label, value ≥ 0). shown: texts beside the bars, by default the values."""
    largest = max((value for _, value in rows), default=0) or 1
    words = shown if shown is not None else [f"{value:g}" for _, value in rows]
    lines = "\n".join(
        f'<tr><td>{_text(label)}</td><td class="bar"><i style="width: {100 * value / largest:.2f}%"></i></td>'
        f'<td class="number">{_text(word)}</td></tr>'
        for (label, value), word in zip(rows, words, strict=True)
    )
    return Html(f'<table class="bars">\n{lines}\n</table>')


def marked(kind: str, text: str) -> Html:
    """Text in the colour of `kind`: error, warning, info or dim."""
    return Html(f'<span class="{_text(kind)}">{_text(text)}</span>')


def _figure(inside: str, caption: str) -> Html:
    below = f"<figcaption>{_text(caption)}</figcaption>" if caption else ""
    return Html(f"<figure>{inside}{below}</figure>")


def _joined(parts: Iterable[Part]) -> str:
    return "\n".join(part if isinstance(part, Html) else f"<p>{_text(part)}</p>" for part in parts)


def _text(value: object) -> str:
    """Text that is safe between tags and in quotes. Lone surrogates, which UTF-8 cannot encode, become "?"."""
    return value if isinstance(value, Html) else escape(str(value).encode("utf-8", "replace").decode("utf-8"))
