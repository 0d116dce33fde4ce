"""The words of a model card. Every number in them comes from the `Card`."""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.cards.card import Card
from benchmarks.cards.tables import (
    WHO_RIVAL,
    class_table,
    difference,
    fit_table,
    score_table,
    short,
)
from benchmarks.markdown import megabytes, minutes

IMAGES = "../../../../docs/images"
WORST = 5  # pictures named in the table of failures


class Use(NamedTuple):
    """What a model is for, and what it is not for."""

    segments: str
    limits: tuple[str, ...]


USES = {
    "nuclei": Use(
        "cell nuclei in microscope pictures, a mask for each, touching ones apart",
        (
            "Not a medical device: nothing here was validated for diagnosis or for decisions about patients.",
            "For 2-D pictures like those of the 2018 Data Science Bowl: fluorescence, and stained tissue in bright "
            "field. Other stains and magnifications, phase contrast, 3-D stacks and whole slides were not tried.",
            "Counts and areas need a check on your own annotated pictures before anything is concluded from them.",
        ),
    ),
    "mushrooms": Use(
        "button mushrooms on growing beds seen from above",
        (
            "Trained on 26 photos, each in three versions, from one source: other varieties, cameras, lighting, "
            "growing racks or views from the side were not tried.",
            "It draws outlines; it measures neither ripeness nor size in millimetres nor disease.",
        ),
    ),
    "granular": Use(
        "sinter, pellets and coke on a belt or a cloth, three classes, a mask for each grain",
        (
            "Trained on 48 pictures of ten photos, each in up to three versions, from one source: other materials, "
            "belts, cameras and lighting were not tried.",
            "Scores are low where grains are covered; large pieces of coke may get two masks.",
            "It draws outlines; it measures neither size in millimetres nor mass. Check a size distribution on your "
            "own annotated pictures.",
        ),
    ),
    "facade": Use(
        "windows, cars, vegetation, streets and other parts of street fronts, ten classes",
        (
            "Trained on European street fronts (in Switzerland, by the data set's description): other building "
            "styles, aerial pictures, night and bad weather were not tried.",
            "Not for traffic, safety or surveying decisions.",
        ),
    ),
    "people": Use(
        "a person in a photo of everyday life, from close up to far away",
        (
            "Trained on 177 photos with one person each: it was not taught to tell people in a crowd apart, and photos "
            "with several people were not tried.",
            "The photos are of COCO val2017, so a score of this model on COCO val2017 means nothing.",
            "Not for surveillance, identification, safety or any decision about people. It was not examined whether it "
            "works equally well for all people.",
        ),
    ),
}


def use_of(name: str) -> Use:
    """The known words for a model, or what can be said of any."""
    return USES.get(name, Use("objects of its classes", ("Only the held-out pictures below were tried.",)))


def data_licence(card: Card) -> str:
    """The licence of the model and of what it was trained on, for `condinst models`."""
    return f"Apache-2.0 (data: {card.data.licence})"


def ap_words(card: Card, kind: str) -> str:
    """For example '0.412 at 100, 0.455 at 500' detections an image."""
    return ", ".join(f"{getattr(scores, kind).AP:.3f} at {limit}" for limit, scores in sorted(card.scores.items()))


def measure_command(card: Card, limit: int) -> str:
    """The command that measures the shipped model again."""
    folder = card.data.folder
    return (
        f"condinst val --model {card.name} --data {folder}/val.json --images {folder}/images --max-detections {limit}"
    )


def write_card(card: Card) -> str:
    """The whole card as Markdown."""
    parts = [_head(card), _accuracy(card), _training(card), _pictures(card), _limits(card), _licence(card)]
    return "\n\n".join(parts) + "\n"


def comparison(card: Card) -> str:
    """Where the model stands beside the rival, at each limit."""
    gaps = [(limit, difference(card, limit, "segm"), difference(card, limit, "bbox")) for limit in sorted(card.scores)]
    known = [(limit, mask, box) for limit, mask, box in gaps if mask is not None and box is not None]
    if not known:
        return f"{WHO_RIVAL} was not measured beside it."
    words = [f"at {limit} detections {mask:+.3f} mask AP and {box:+.3f} box AP" for limit, mask, box in known]
    seen = f"{card.rival.images_seen:,}" if card.rival else ""
    run = f"in the run of this card (the accuracy page has later runs), after a training on {seen} images each"
    return f"CondInst less {WHO_RIVAL}, {run}: {'; '.join(words)}."


def misses(card: Card) -> str:
    """Errors over the whole held-out set at the score from which on objects are drawn."""
    objects, predicted = (sum(getattr(fit, name) for fit in card.fits) for name in ("objects", "predicted"))
    loose, strict = (sum(getattr(fit, name) for fit in card.fits) for name in ("matched50", "matched75"))
    return (
        f"With predictions from score {card.conf:g} on, {objects - loose} of {objects} objects are missed (no mask of "
        f"IoU 0.5 or more), {predicted - loose} of {predicted} predictions are false, and {loose - strict} of the "
        f"{loose} objects found have a mask below IoU 0.75."
    )


def shown(card: Card, kind: str, folder: str) -> str:
    """The pictures of one kind, "success" or "failure", as Markdown."""
    fits = {fit.file: fit for fit in card.fits}
    lines = []
    for picture, file in card.shown.items():
        if f"-{kind}-" in picture:
            loose, strict = fits[file].f1
            lines.append(f"![{card.name}, {kind}: {short(file)}, F1 {loose:.2f} and {strict:.2f}]({folder}/{picture})")
    return "\n\n".join(lines) or "*None.*"


def _head(card: Card) -> str:
    classes = ", ".join(card.classes)
    return (
        f"# {card.name}\n\n"
        f"Segments {card.segments}. Class{'es' * (len(card.classes) > 1)}: {classes}.\n\n"
        f"{card.parameters:,} parameters, {megabytes(card.file_bytes)} in half precision.\n\n"
        f"```sh\ncondinst predict my_pictures --model {card.name} --out my_results\n```\n\n"
        "Written by `benchmarks/cards/model_card.py` from what it measured (`scores.json`)."
    )


def _accuracy(card: Card) -> str:
    images = next(iter(card.scores.values())).images
    commands = "\n".join(measure_command(card, limit) for limit in sorted(card.scores))
    sections = [
        "## Accuracy",
        f"On the {images} held-out images with {card.data.val_objects:,} objects (half of them smaller than "
        f"{card.data.median_side:g} px, the root of the area), none of them a training picture. AP is COCO's mean "
        "over IoU 0.50 to 0.95; s, m and l are objects below 32², below 96² and from 96² px of area. The limit is how "
        "many detections of an image count; 100 is COCO's. *The truth itself* is what a perfect detector gets there.",
        "### Masks",
        score_table(card, "segm"),
        "### Boxes",
        score_table(card, "bbox"),
    ]
    if len(card.classes) > 1:
        sections += [f"### Classes, at {max(card.scores)} detections", class_table(card)]
    return "\n\n".join([*sections, comparison(card), *card.remarks, _rival(card), f"```sh\n{commands}\n```"])


def _rival(card: Card) -> str:
    if card.rival is None:
        return f"This model: {card.parameters:,} parameters, trained in {minutes(card.training.minutes)}."
    rival = card.rival
    return (
        f"The shipped model was trained in {minutes(card.training.minutes)}. {WHO_RIVAL} is torchvision's, on the same "
        f"backbone weights, engine, data, resolution and budget as a second CondInst beside it: {rival.iterations} "
        f"iterations, {rival.images_seen:,} images (`benchmarks/accuracy/mask_rcnn.py`). {WHO_RIVAL} has "
        f"{rival.parameters:,} parameters and took {minutes(rival.training_seconds / 60)}, CondInst has "
        f"{card.parameters:,} and took {minutes(rival.condinst_seconds / 60)}.\n\n```sh\n{card.rival_command}\n```"
    )


def _training(card: Card) -> str:
    data = card.data
    return (
        "## Data and training\n\n"
        f"- Data: {data.title}; {data.train_images} images with {data.train_objects:,} objects for training, "
        f"{data.val_images} with {data.val_objects:,} held out.\n"
        f"- Licence of the data: {data.licence}. Attribution: {data.attribution.rstrip('.')}. Source: {data.source}.\n"
        f"- Changes to the data: {data.changes}\n"
        f"- Recipe `{card.training.recipe}`: {card.training.settings}. `config.yaml` here has every setting.\n"
        f"- Hardware: {card.training.hardware}. Time: {minutes(card.training.minutes)}.\n\n"
        f"```sh\n{card.training.command}\n```"
    )


def _pictures(card: Card) -> str:
    worst = list(reversed(card.fits))[:WORST]
    return (
        "## Successes and failures\n\n"
        "Held-out pictures, chosen by the mean of two F1 scores: of masks at IoU 0.5 and at 0.75, each object matched "
        "once, best score first. Successes: of the pictures with at least the median number of objects the best, and "
        "the next best of another colour (where there is one). Failures: of all pictures the worst, and the next worst "
        "of another colour. Left the picture, in the middle the truth with missed "
        "objects in red, on the right the prediction with false ones in red (both by IoU 0.5).\n\n"
        f"{misses(card)}\n\n### Successes\n\n{shown(card, 'success', IMAGES)}\n\n"
        f"### Failures\n\n{shown(card, 'failure', IMAGES)}\n\nThe {len(worst)} worst pictures:\n\n{fit_table(worst)}"
    )


def _limits(card: Card) -> str:
    return "## Limits of use\n\n" + "\n".join(f"- {line}" for line in card.limits_of_use)


def _licence(card: Card) -> str:
    return (
        "## Licence\n\n"
        "The model: Apache License 2.0. Its backbone started from weights that NOTICE names. "
        f"The data it learned from: {card.data.licence}, {card.data.attribution}"
    )
