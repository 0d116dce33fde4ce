"""The page at /: one file with its own style and script, and a policy that allows no outside address."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from starlette.responses import HTMLResponse

PAGE = Path(__file__).parent.parent / "page" / "index.html"
_INLINE = re.compile(r"<(script|style)\b[^>]*>(.*?)</\1>", re.DOTALL | re.IGNORECASE)


def html_response(text: str) -> HTMLResponse:
    """An HTML page whose inline styles and scripts are allowed by their hashes, and nothing else."""
    return HTMLResponse(
        text,
        headers={
            "Content-Security-Policy": policy(text),
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache",
        },
    )


def policy(text: str) -> str:
    """The Content-Security-Policy of a page."""
    hashes: dict[str, list[str]] = {"script": [], "style": []}
    for kind, content in _INLINE.findall(text):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        hashes[kind.lower()].append(f"'sha256-{digest}'")
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {_sources(hashes['script'])}",
            f"style-src {_sources(hashes['style'])}",
            "img-src 'self' blob: data:",
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ]
    )


def _sources(hashes: list[str]) -> str:
    return " ".join(hashes) or "'none'"
