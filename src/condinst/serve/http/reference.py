"""The page /docs: what the server answers, made from its OpenAPI document. The page loads nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h2 { font-size: 1.1rem; margin-top: 2.5rem; border-top: 1px solid #8886; padding-top: 1rem }
code { font-family: ui-monospace, monospace }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; padding: .2rem 1rem .2rem 0; border-bottom: 1px solid #8884 }
"""


def reference_page(document: dict[str, Any]) -> str:
    """The HTML page of an OpenAPI document."""
    info = document["info"]
    parts = [part for path, methods in document["paths"].items() for part in _path(path, methods)]
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width">\n<title>{escape(info["title"])}</title>\n'
        f"<style>{STYLE}</style>\n<h1>{escape(info['title'])} {escape(info['version'])}</h1>\n"
        f"<p>{escape(info.get('description', ''))}</p>\n"
        '<p>The same as an OpenAPI document: <a href="openapi.json">openapi.json</a></p>\n' + "\n".join(parts)
    )


def _path(path: str, methods: dict[str, Any]) -> Iterator[str]:
    for method, route in methods.items():
        yield f"<h2><code>{escape(method.upper())} {escape(path)}</code></h2>"
        yield f"<p>{escape(route['summary'])}. {escape(route.get('description', ''))}</p>"
        yield from _table(
            ("parameter", "type", "meaning"),
            [
                (each["name"], _type(each["schema"]), each.get("description", ""))
                for each in route.get("parameters", ())
            ],
        )
        kinds = route.get("requestBody", {}).get("content", {})
        if kinds:
            yield f"<p>Body: {', '.join(f'<code>{escape(kind)}</code>' for kind in kinds)}</p>"
        answers = [(status, answer["description"]) for status, answer in route["responses"].items()]
        yield from _table(("status", "meaning"), answers)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    if rows:
        yield f"<table><tr>{''.join(f'<th>{name}</th>' for name in head)}</tr>"
        yield from (f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        yield "</table>"


def _type(schema: dict[str, Any]) -> str:
    """ "number from 0 to 1", "text, text, …" or the allowed values."""
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
    kind = kinds[0]
    if "enum" in kind:
        return ", ".join(kind["enum"])
    name = {"string": "text", "integer": "whole number", "array": "texts"}.get(
        kind.get("type", ""), kind.get("type", "")
    )
    edges = [f"{word} {kind[key]}" for word, key in (("from", "minimum"), ("to", "maximum")) if key in kind]
    return " ".join([name, *edges])
