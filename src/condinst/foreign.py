"""Recognise files whose content was never downloaded: empty files, Git LFS pointers and web pages."""

from __future__ import annotations

import re
from pathlib import Path

BYTES_READ = 512
WEB_PAGE = re.compile(rb"\s*(<!doctype html|<html)", re.IGNORECASE)


def missing_content(start: bytes) -> str:
    """Say what a file holds in place of its content, and what to do. Returns "" if the start shows no such thing.

        missing_content(b"<!DOCTYPE html>…")  # "holds a web page, not the file; download the file itself"

    start: the first bytes of the file, at most `BYTES_READ` of them; empty for an empty file.
    """
    if not start:
        return "the file is empty; copy or download it again"
    if start.startswith(b"version https://git-lfs"):
        return "holds a Git LFS pointer, not the file; run 'git lfs pull' in its repository"
    if WEB_PAGE.match(start.removeprefix(b"\xef\xbb\xbf")):
        return "holds a web page, not the file; download the file itself"
    return ""


def missing_content_of(path: Path) -> str:
    """Return `missing_content` of a file; "" if the file cannot be read."""
    try:
        with path.open("rb") as file:
            return missing_content(file.read(BYTES_READ))
    except OSError:
        return ""
