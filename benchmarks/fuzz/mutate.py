"""Damage to files: bytes at random, and values inside JSON, YAML, XML, CSV, zip, safetensors and PNG files."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

Damage = Callable[[bytes, Random], bytes]
NUMBERS = (
    *("0", "-1", "1", "7", "-0.0", "0.5", "1e308", "-1e308", "1e999", "NaN", "Infinity", "-Infinity", "1e-320", "nan"),
    *("65536", "2147483647", "2147483648", "-2147483649", "4294967296", "9223372036854775807", "9223372036854775808"),
    *("-9223372036854775809", "18446744073709551616", "1" + "0" * 30, "9" * 400, "9" * 5000, "1.5", "1e10", "999999"),
    *("0x7fffffff", "1_000", "012", "1:30:00", ".inf", "-.inf", ".nan", "1e5", "200000", "1000000", "-1000000"),
)
TEXTS = (
    *(
        "",
        " ",
        "a" * 300,
        "../../etc/passwd",
        "/etc/hostname",
        "/dev/zero",
        "C:\\x\\y.png",
        "é",
        "e\u0301",
        "\u202egnp.a",
    ),
    *(
        "\x00",
        "\x1b[31m",
        "\n",
        "\ud800",
        "\U0001f600",
        "a\tb",
        "%s%n",
        "{0}",
        "<<",
        "~",
        "null",
        "*a",
        "&a",
        "!!binary x",
    ),
    *(
        "true",
        "..",
        ".",
        "/",
        "~root",
        "a.png",
        "cat",
        "=cmd()",
        "\\u0000",
        "none",
        "images",
        "--help",
        "://",
        "file:///x",
    ),
)


def _value(random: Random) -> Any:
    """An absurd value for a place in a JSON document."""
    choice = random.randrange(9)
    if choice == 0:
        return random.choice([None, True, False, [], {}, [[]], {"": {}}, [None], [1], ["a"]])
    if choice <= 3:
        return random.choice(
            [0, -1, 1, 0.5, 1e308, -1e308, float("nan"), float("inf"), 2**31, 2**63, 2**64, 10**30, 10**400]
        )
    if choice <= 5:
        return random.choice(TEXTS)
    if choice == 6:
        deep: Any = random.choice([1, "x"])
        for _ in range(random.choice([3, 60, 400])):
            deep = [deep] if random.random() < 0.8 else {"a": deep}
        return deep
    if choice == 7:
        return [random.choice([0, 1, 1e6, -1e6, 1e5, 3.5]) for _ in range(random.choice([2, 4, 5, 6, 7, 1000, 20000]))]
    return random.choice(list(NUMBERS))


def _places(node: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in list(items):
        found.append((node, key))
        _places(child, found)
    return found


def change_json(content: bytes, random: Random) -> bytes:
    """Values replaced, removed, repeated or moved; then perhaps a key twice, or deep nesting."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return change_bytes(content, random)
    for _ in range(random.choice([1, 1, 1, 2, 5])):
        places = _places(document, [])
        if not places:
            break
        node, key = random.choice(places)
        change = random.randrange(6)
        if change <= 2:
            node[key] = _value(random)
        elif change == 3:
            del node[key]
        elif change == 4:
            other, there = random.choice(places)
            node[key] = deepcopy(other[there])
        elif isinstance(node, list):
            node[key:key] = [node[key]] * random.choice([1, 2, 50])
        else:
            node[random.choice(TEXTS)] = _value(random)
    text = json.dumps(document)
    last = random.random()
    if last < 0.06 and text.startswith("{"):
        text = "{" + text[1:-1] + ", " + text[1:]
    elif last < 0.1:
        depth = random.choice([100, 5000, 200_000])
        text = "[" * depth + text + "]" * random.choice([depth, 0])
    elif last < 0.25:
        text = _swap_word(text, random)
    return text.encode("utf-8", "surrogatepass")


WORD = re.compile(r"-?\d[\d.]*|[A-Za-z_][\w./-]*")


def _swap_word(text: str, random: Random) -> str:
    words = list(WORD.finditer(text))
    if not words:
        return text
    match = random.choice(words)
    new = random.choice(NUMBERS if match[0][0] in "-0123456789" or random.random() < 0.3 else TEXTS)
    return text[: match.start()] + new + text[match.end() :]


BOMBS = (
    "\na: &a [x, x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]\n",
    "\nx: " + "1:" * 3000 + "1\n",
    "\nx: !!python/object/apply:os.system [ls]\n",
    "\n? [a, b]\n: 1\n",
    "\n--- x\n",
    "\nx: 2024-13-45\n",
    "<!DOCTYPE a [<!ENTITY b 'bbbb'>]>",
    "<!-- " + "-" * 50 + " -->",
    '<image name="a.png" subset="' + "x " * 2000,
    "<image " * 2000,
    "<a>" * 3000,
    "&lol;",
    "[" * 3000,
    "{" * 3000,
    "\n- " * 300,
    "\t",
    "\x00",
    "\ufeff",
    "#" * 5000,
    "'",
    '"',
)


def change_text(content: bytes, random: Random) -> bytes:
    """Words and numbers replaced, lines moved, removed or repeated, bombs put in."""
    text = content.decode("utf-8", "surrogateescape")
    for _ in range(random.choice([1, 1, 2, 4])):
        change = random.randrange(8)
        lines = text.split("\n")
        place = random.randrange(len(lines))
        if change <= 3:
            text = _swap_word(text, random)
        elif change == 4:
            del lines[place]
            text = "\n".join(lines)
        elif change == 5:
            lines[place:place] = [random.choice(lines)] * random.choice([1, 2, 200])
            text = "\n".join(lines)
        else:
            at = random.randrange(len(text) + 1)
            text = text[:at] + random.choice(BOMBS) + text[at:]
    return text.encode("utf-8", "surrogatepass" if "\ud800" in text else "surrogateescape")


WIDE = (
    b"\x00" * 4,
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x00\x00\x01\x00",
    b"\x01\x00\x00\x00",
    b"\x80\x00\x00\x00",
)


def change_bytes(content: bytes, random: Random) -> bytes:
    """Bits flipped, bytes set, cut off, removed, repeated or spliced."""
    data = bytearray(content)
    for _ in range(random.choice([1, 1, 2, 3, 8, 40])):
        if not data:
            return bytes(random.randbytes(random.choice([0, 1, 40])))
        # most of what matters lies at the beginning or the end
        reach = random.choice([len(data), min(len(data), 200), min(len(data), 40)])
        at = random.randrange(reach) if random.random() < 0.8 else len(data) - 1 - random.randrange(min(len(data), 100))
        size = random.choice([1, 2, 4, 16, 200])
        change = random.randrange(8)
        if change <= 1:
            data[at] ^= 1 << random.randrange(8)
        elif change == 2:
            data[at] = random.choice([0, 1, 127, 128, 255, random.randrange(256)])
        elif change == 3:
            new = random.choice(WIDE)
            data[at : at + len(new)] = new
        elif change == 4:
            del data[at : at + size]
        elif change == 5:
            data[at:at] = data[at : at + size] * random.choice([1, 3, 50])
        elif change == 6 and random.random() < 0.3:
            del data[at:]
        else:
            source = random.randrange(len(data))
            data[at : at + size] = data[source : source + size]
    return bytes(data)


def change_safetensors(content: bytes, random: Random) -> bytes:
    """The header's names, kinds, shapes and offsets; its length stays true."""
    size = struct.unpack("<Q", content[:8])[0]
    header = change_json(content[8 : 8 + size], random)
    return struct.pack("<Q", len(header)) + header + content[8 + size :]


def change_zip(content: bytes, random: Random) -> bytes:
    """One member changed, renamed, removed or stored twice; checksums stay true. Perhaps all are packed."""
    packing = zipfile.ZIP_DEFLATED if random.random() < 0.2 else zipfile.ZIP_STORED
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(target, "w", packing) as new:
        names = source.namelist()
        pickles = [name for name in names if name.endswith(".pkl")]
        chosen = random.choice(pickles) if pickles and random.random() < 0.7 else random.choice(names)
        change = random.randrange(8)
        for name in names:
            held = source.read(name)
            if name != chosen:
                new.writestr(name, held)
            elif change <= 4:
                new.writestr(name, change_bytes(held, random) if random.random() < 0.7 else change_text(held, random))
            elif change == 5:
                new.writestr(name + random.choice(["x", "/../../y", "\x1b"]), held)
            elif change == 6:
                new.writestr(name, held + bytes(random.choice([1, 4, 50_000_000])))
    return target.getvalue()


def change_png(content: bytes, random: Random) -> bytes:
    """One chunk's content, its checksum made true again."""
    chunks, at = [], 8
    while at + 12 <= len(content):
        size = struct.unpack(">I", content[at : at + 4])[0]
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += 12 + size
    if not chunks:
        return change_bytes(content, random)
    place = random.randrange(len(chunks))
    kind, held = chunks[place]
    if kind == b"IHDR" and random.random() < 0.5:
        sides = [random.choice([0, 1, 48, 40, 4000, 20_000, 65_535, 2**31 - 1]) for _ in range(2)]
        held = struct.pack(">II", *sides) + held[8:]
    elif kind == b"IDAT" and random.random() < 0.5:
        held = zlib.compress(change_bytes(zlib.decompress(held), random)) if _inflates(held) else held[:-3]
    else:
        held = change_bytes(held, random) if held else b"\x00"
    chunks[place] = (kind, held)
    if random.random() < 0.1:
        chunks.insert(place, random.choice(chunks))
    return content[:8] + b"".join(
        struct.pack(">I", len(held)) + kind + held + struct.pack(">I", zlib.crc32(kind + held)) for kind, held in chunks
    )


def _inflates(held: bytes) -> bool:
    try:
        return bool(zlib.decompress(held))
    except zlib.error:
        return False


def damage(path: Path, random: Random, others: list[Path]) -> None:
    """Change the file at `path` in one or two ways. others: valid files, parts of which may be put in."""
    content = path.read_bytes()
    if random.random() < 0.05:
        other = random.choice(others).read_bytes()
        cut = random.randrange(len(content) + 1)
        content = content[:cut] + other[random.randrange(len(other) + 1) :]
    for _ in range(1 if random.random() < 0.85 else 2):
        try:
            content = _choose(path, content, random)(content, random)
        except Exception:  # damaged before, so that it cannot be taken apart
            content = change_bytes(content, random)
    path.write_bytes(content)


def _choose(path: Path, content: bytes, random: Random) -> Damage:
    """Bytes at random a third of the time, else by what the file holds."""
    ending = path.suffix.lower()
    if random.random() < 0.33:
        return change_bytes
    if ending == ".json":
        return change_json
    if ending in {".yaml", ".xml", ".csv", ".txt", ".jsonl"}:
        return change_text
    if content[:4] == b"PK\x03\x04" and zipfile.is_zipfile(io.BytesIO(content)):
        return change_zip
    if ending == ".safetensors" and len(content) > 8 and struct.unpack("<Q", content[:8])[0] < len(content):
        return change_safetensors
    if content[:4] == b"\x89PNG":
        return change_png
    return change_bytes
