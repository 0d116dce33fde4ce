"""Write the model card, with the metadata that the Hugging Face hub reads."""

from __future__ import annotations

import yaml

from condinst.config import Config
from condinst.weights.outline import outline

LICENCES = {
    "Apache-2.0": "apache-2.0",
    "CC0": "cc0-1.0",
    "CC BY 4.0": "cc-by-4.0",
    "MIT": "mit",
}  # the hub's identifiers
TAGS = ("condinst", "instance-segmentation", "pytorch")
DATASETS = {"COCO": "coco"}  # beginning of `about.data` → the hub's identifier
SHOWN_CLASSES = 100
METHODS = {
    "condinst": "conditional convolutions (CondInst, arXiv 2003.05664)",
    "rtmdet-ins": "conditional convolutions (RTMDet-Ins, arXiv 2212.07784)",
    "yolact": "prototypes and coefficients (YOLACT, arXiv 1904.02689)",
    "solo": "locations (SOLO, arXiv 1912.04488)",
    "decoupled-solo": "locations (Decoupled SOLO, arXiv 1912.04488)",
    "solov2": "locations (SOLOv2, arXiv 2003.10152)",
    "blendmask": "bases and attention (BlendMask, arXiv 2001.00309)",
    "meinst": "mask codes (MEInst, arXiv 2003.11712)",
    "solov2-fcos": "convolutions of one layer (SOLOv2, arXiv 2003.10152) on FCOS",
    "yolact-fcos": "prototypes and coefficients (YOLACT, arXiv 1904.02689) on FCOS",
}


def make_card(config: Config) -> str:
    """Make a Markdown card: the model, its use, its origin, its reported accuracy and its licence.

    All facts come from `config`. The card says "not stated" for facts that `about` does not give. Raises ModelError if
    the backbone cannot be built.
    """
    parts = (
        f"---\n{yaml.safe_dump(_head(config), sort_keys=False, allow_unicode=True)}---",
        f"# {config.about.get('name', 'CondInst')}",
        _what(config),
        _use(config),
        _accuracy(config.about),
        _origin(config.about),
    )
    return "\n\n".join(parts) + "\n"


def is_own_card(content: bytes) -> bool:
    """Return whether a file begins like a card of `make_card`."""
    head, end, _ = content.removeprefix(b"---\n").partition(b"\n---")
    return content.startswith(b"---\n") and bool(end) and b"library_name: condinst" in head.splitlines()


def _head(config: Config) -> dict[str, object]:
    about = config.about
    head: dict[str, object] = {"library_name": "condinst", "pipeline_tag": "image-segmentation", "tags": list(TAGS)}
    licence = about.get("licence", "")
    if licence:
        known = next((word for text, word in LICENCES.items() if licence.startswith(text)), "other")
        head["license"] = known
        if known == "other":
            head["license_name"] = "non-commercial" if "non-commercial" in licence else "see-below"
    datasets = [word for text, word in DATASETS.items() if about.get("data", "").startswith(text)]
    return head | ({"datasets": datasets} if datasets else {})


def _what(config: Config) -> str:
    shape, classes = outline(config), config.model.classes
    names = ", ".join(classes[:SHOWN_CLASSES]) + (", …" if len(classes) > SHOWN_CLASSES else "")
    rows = {
        "backbone": shape.backbone,
        "pyramid": shape.pyramid,
        "head": shape.head,
        "mask branch": shape.mask_branch,
        "mask head": shape.mask_head + f": {shape.filters} numbers for each instance" * (shape.filters > 0),
        "input": shape.input,
        "score": shape.score,
        "parameters": f"{shape.parameters['total']:,}",
    }
    table = "\n".join(f"| {name} | {text} |" for name, text in rows.items())
    return (
        f"Instance segmentation by {METHODS[config.model.method]}: a box, a score and a "
        f"mask for every object.\n\n| part | |\n| --- | --- |\n{table}\n\n"
        f"Classes ({len(classes)}): {names or 'not named'}."
    )


def _use(config: Config) -> str:
    return (
        "## Use\n\nWith the package `condinst` installed; MODEL is this folder, or the id of this repository on the "
        "Hugging Face hub:\n\n"
        "```sh\ncondinst info MODEL\ncondinst predict my_pictures --model MODEL --out my_results\n```"
    )


def _accuracy(about: dict[str, str]) -> str:
    rows = [f"| {name} | {about[name]} |" for name in ("box AP", "mask AP") if name in about]
    if not rows:
        return "## Accuracy\n\nNot stated."
    note = "As stated in the settings (a recipe states expected values). This card did not measure the model again."
    return "\n".join(["## Accuracy", "", note, "", "| measure | value |", "| --- | --- |", *rows])


def _origin(about: dict[str, str]) -> str:
    lines = [f"- {key}: {text}" for key, text in about.items() if key not in {"name", "licence", "box AP", "mask AP"}]
    licence = about.get(
        "licence", "not stated; before you publish this model, state it in `config.yaml`, section about"
    )
    return "\n".join(["## Origin and licence", "", *lines, f"- licence of the weights: {licence}"])
