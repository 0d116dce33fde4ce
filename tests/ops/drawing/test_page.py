"""Pages contain the given parts, escape text and load nothing from elsewhere."""

import io
from html.parser import HTMLParser

import pytest
from PIL import Image

from condinst.ops.drawing.page import Html, bars, drawing, marked, page, picture, pictures, section, table

NASTY = "<script>alert('x')</script> & \"quoted\" \ud800 结"
VOID = {"meta", "img", "br"}


class Reader(HTMLParser):
    """Sees that every element is closed in order; gathers the text and the names of elements."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(document: str) -> Reader:
    reader = Reader()
    reader.feed(document)
    reader.close()
    assert not reader.open
    return reader


def image(kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (2, 2)).save(file, kind)
    return file.getvalue()


def test_plain_text_is_escaped() -> None:
    parts = [
        NASTY,
        table([NASTY], [[NASTY, 3], [marked("error", NASTY), None]]),
        bars([(NASTY, 2.0), ("b", 0)], [NASTY, "0"]),
        picture(image("PNG"), NASTY, NASTY),
        section(NASTY, [NASTY]),
    ]
    document = page(NASTY, parts)
    document.encode("utf-8")
    reader = read(document)
    assert "script" not in reader.seen
    # title, heading, paragraph, table head, two cells, two of the bars, caption, section's heading and paragraph
    assert reader.text.count("<script>alert('x')</script> & \"quoted\" ? 结") == 11


@pytest.mark.parametrize(("kind", "mime"), [("PNG", "image/png"), ("JPEG", "image/jpeg")])
def test_pictures_are_inside(kind: str, mime: str) -> None:
    text = picture(image(kind), "a")
    assert text.startswith(f'<figure><img src="data:{mime};base64,')
    assert "http" not in page("t", [pictures([text, drawing("<svg></svg>", "b")])])


def test_other_bytes_are_no_picture() -> None:
    with pytest.raises(ValueError, match="JPEG or PNG"):
        picture(b"GIF89a", "a")


def test_bars_are_in_proportion() -> None:
    text = bars([("a", 4), ("b", 1), ("c", 0)])
    assert [part.split("%")[0] for part in text.split("width: ")[1:]] == ["100.00", "25.00", "0.00"]
    assert read(bars([])).text.strip() == ""
    assert "NaN" not in bars([("a", 0)])


def test_numbers_stand_right() -> None:
    text = table(["name", "count"], [["a", 1]], numbers_from=1)
    assert text.count('class="number"') == 2
    assert isinstance(text, Html)
