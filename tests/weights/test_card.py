"""The model card: read by the hub's own reader, and true of the settings it is made from."""

from __future__ import annotations

import pytest
from huggingface_hub import ModelCard

from condinst.config import Config
from condinst.weights.card import make_card
from condinst.weights.catalogue import CATALOGUE
from condinst.weights.outline import expected_config

SMALL = {"backbone": {"name": "mobilenetv2_050"}, "fpn_channels": 32, "head": {"convs": 1, "channels": 64}}


def card(about: dict[str, str], **model: object) -> ModelCard:
    return ModelCard(make_card(Config.from_dict({"about": about, "model": SMALL | model})))


def test_published_model() -> None:
    made = ModelCard(make_card(expected_config(CATALOGUE["adelaidet/CondInst_MS_R_50_3x_sem"])))
    assert made.data.license == "other"
    assert made.data.license_name == "non-commercial"
    assert made.data.library_name == "condinst"
    assert made.data.pipeline_tag == "image-segmentation"
    assert "instance-segmentation" in (made.data.tags or [])
    assert made.data.datasets == ["coco"]
    for words in (
        "# adelaidet/CondInst_MS_R_50_3x_sem",
        "Classes (80): person, bicycle",
        "| box AP | 0.426 on COCO val2017, reported by AdelaiDet |",
        "| mask AP | 0.382 on COCO val2017, reported by AdelaiDet |",
        "169 numbers",
        "https://huggingface.co/tianzhi/AdelaiDet-CondInst/resolve/main/CondInst_MS_R_50_3x_sem.pth",
        "licence of the weights: non-commercial use only",
        "condinst predict my_pictures --model MODEL",
    ):
        assert words in made.text


def test_rtmdet_ins() -> None:
    made = ModelCard(make_card(expected_config(CATALOGUE["mmdetection/rtmdet-ins_s_8xb32-300e_coco"])))
    assert made.data.license == "apache-2.0"
    for words in (
        "RTMDet-Ins, arXiv 2212.07784",
        "| mask AP | 0.387 on COCO val2017, reported by mmdetection |",
        "- mirror: https://huggingface.co/LibreYOLO/LibreRTMDets-seg/resolve/main/LibreRTMDets-seg.pt",
        "| parameters | 10,183,311 |",
    ):
        assert words in made.text


@pytest.mark.parametrize(
    ("licence", "word"),
    [
        ("Apache-2.0 (data: CC0 1.0 Universal)", "apache-2.0"),
        ("CC BY 4.0", "cc-by-4.0"),
        ("my own", "other"),
    ],
)
def test_licences_in_the_hubs_words(licence: str, word: str) -> None:
    made = card({"licence": licence})
    assert made.data.license == word
    assert licence in made.text


def test_what_is_not_known_is_said_to_be_so() -> None:
    made = card({}, classes=["nucleus"])
    assert made.data.license is None
    assert made.data.datasets is None
    assert "Not stated." in made.text
    assert "licence of the weights: not stated" in made.text
    assert "Classes (1): nucleus." in made.text


def test_words_that_would_break_the_head_of_the_card() -> None:
    made = card({"licence": "other: [one, two]\n---\nlicense: mit", "data": "COCO: {all}"})
    assert made.data.license == "other"


def test_many_classes_are_cut() -> None:
    text = card({}, classes=[f"c{label}" for label in range(1203)]).text
    assert "Classes (1203): c0, c1" in text
    assert "c99, …" in text
    assert "c100" not in text
