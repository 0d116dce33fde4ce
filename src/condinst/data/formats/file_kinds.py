"""Tells what an unused file in the folder of a data set may be: a picture, annotations, an archive, or another kind."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from condinst.data.formats import voc
from condinst.data.formats.coco.folders import is_coco
from condinst.data.formats.labelme.read import is_labelme
from condinst.data.formats.splits import contains
from condinst.data.formats.yolo.read import is_data_yaml
from condinst.data.pictures.image import SUFFIXES

Kind = Literal["picture", "annotation", "archive", "other"]

ARCHIVES = frozenset(
    {".7z", ".bz2", ".gz", ".lz4", ".lzma", ".rar", ".tar", ".tbz", ".tgz", ".txz", ".xz", ".zip", ".zst"}
)
VOLUME = re.compile(r"\.(\d{3}|[rz]\d\d)")  # one part of a split archive: .001, .r00, .z01
PICTURES = SUFFIXES | {  # includes pictures that no reader accepts
    ".arw", ".cr2", ".cr3", ".czi", ".dcm", ".dds", ".dicom", ".dng", ".exr", ".fits", ".hdr", ".ico", ".ims", ".jxl",
    ".lif", ".lsm", ".mrxs", ".nd2", ".ndpi", ".nef", ".nii", ".oib", ".oir", ".orf", ".pcx", ".pef", ".psd", ".raf",
    ".rw2", ".scn", ".stk", ".svg", ".svs", ".tga", ".vsi", ".zvi",
}  # fmt: skip
MASKS = frozenset({voc.OBJECTS.lower(), voc.CLASSES.lower()})  # folders whose pictures are annotations
TEXTS = frozenset({".json", ".txt", ".xml", ".yaml", ".yml"})
DOCUMENTS = frozenset({  # endings of files that belong to a data set, but hold neither pictures nor objects
    ".bat", ".bib", ".cache", ".cff", ".cfg", ".css", ".doc", ".docx", ".htm", ".html", ".ini", ".ipynb", ".js",
    ".lock", ".log", ".md", ".md5", ".odt", ".pdf", ".ps1", ".py", ".pyc", ".rst", ".rtf", ".sh", ".sha1", ".sha256",
    ".tex", ".toml",
})  # fmt: skip
DOCUMENT = re.compile(
    "authors|changelog|checksums?|citation|copying|dockerfile|licen[cs]e|makefile|notice|readme", re.I
)

HEAD = 4096  # bytes of a text file that are looked at
NUMBER = rb"[-+]?\d*[.,]?\d+(?:[eE][-+]?\d+)?"
ROW = re.compile(rb"\s*\d+(?:\.0+)?(?:[\s,;]+" + NUMBER + rb"){4,}\s*(?:\n|\r|$)")  # YOLO: a class and coordinates
OBJECTS = tuple(  # keys of objects in the JSON files of other programs, such as VIA, Labelbox and Supervisely
    f'"{key}"'.encode()
    for key in ("annotations", "bbox", "geometry", "objects", "points", "polygon", "regions", "segmentation")
)
DRAWN = (b"<annotation", b"<Annotation", b"<object", b"<polygon")  # of CVAT, Pascal VOC, ImageScope


def kind_of(file: Path) -> Kind | None:
    """Return the kind of a file by its name; None for documents and programs.

    The content of a text decides whether it is an annotation, see `holds_annotations`.
    """
    suffix = file.suffix.lower()
    if suffix in PICTURES:
        return "annotation" if any(part.lower() in MASKS for part in file.parts[:-1]) else "picture"
    if suffix in ARCHIVES or VOLUME.fullmatch(suffix):
        return "archive"
    if suffix in TEXTS:
        return "annotation"
    return None if suffix in DOCUMENTS or DOCUMENT.match(file.name) else "other"


def holds_annotations(file: Path) -> bool:
    """Return whether a file holds annotations, or is a text that is damaged so that it may have held some.

    Settings, licences and lists of classes lie in many data sets: they are none.
    """
    suffix = file.suffix.lower()
    if suffix in PICTURES:
        return True
    if suffix in (".yaml", ".yml"):
        return is_data_yaml(file)
    if suffix == ".json":
        return is_coco(file) or is_labelme(file) or any(contains(file, *OBJECTS)) or is_broken_off(file)
    if suffix == ".xml":
        return any(contains(file, *DRAWN)) or is_broken_off(file)
    return ROW.match(_start(file)) is not None


def is_broken_off(file: Path) -> bool:
    """Return whether a JSON or XML file is empty or ends in the middle, as after a copy that was stopped."""
    try:
        with file.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(size - HEAD, 0))
            end = stream.read().replace(b"\0", b"").rstrip()  # text in UTF-16 has zeros
    except OSError:
        return True
    return not end.endswith((b"}", b"]", b">"))


def _start(file: Path) -> bytes:
    """Return the start of a text file, without the marks of its encoding."""
    try:
        with file.open("rb") as stream:
            start = stream.read(HEAD)
    except OSError:
        return b""
    for mark in (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"):
        start = start.removeprefix(mark)
    return start.replace(b"\0", b"")
