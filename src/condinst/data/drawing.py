"""The random steps that make one training example: of one picture, or of several that are joined."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from condinst.data.augment.canvas_mosaic import Picture, make_canvas_mosaic
from condinst.data.augment.compose import Colour, Scene, make_mosaic, paste_objects
from condinst.data.augment.mixup import mix
from condinst.data.augment.views import View, draw_crop, draw_surroundings, shows_centre
from condinst.data.sample import AnnotatedData, Array8, Box, Sample
from condinst.data.shown import Shown, show
from condinst.data.transforms import augment
from condinst.errors import DataError
from condinst.settings.prediction import Resampling
from condinst.settings.training import AugmentConfig

TRIES = 15  # most pictures that are drawn to find one with objects
Drawn = tuple[Scene, tuple[int, int]]  # with the (height, width) of the file, or of the joined picture


@dataclass(frozen=True)
class Drawing:
    """The steps for one example.

    read: decodes the picture of an index. partner: draws the index of another picture. fill: RGB where no picture is.
    stretch: see `InputConfig`.
    """

    data: AnnotatedData
    config: AugmentConfig
    rng: np.random.Generator
    read: Callable[[int], Array8]
    partner: Callable[[], int]
    fill: Colour
    resampling: Resampling
    stretch: bool = False

    def draw(self, index: int) -> Drawn:
        """Draw an example that begins with picture `index`.

        If all its objects are too small, draw another picture. Raises DataError for a damaged file.
        """
        for _ in range(TRIES):
            scene, size = self._mixed(index)
            kept = tuple(thing for thing in scene.things if self._is_large(thing))
            if kept or not (scene.things or self._all_small(index)):
                break
            index = self.partner()
        return scene._replace(things=kept), size

    def _is_large(self, thing: Shown) -> bool:
        return _shorter_side(thing.box) > self.config.min_side

    def _all_small(self, index: int) -> bool:
        """Whether a picture has objects in its file, and all are too small there."""
        least = self.config.min_side_in_file
        sides = [_shorter_side(thing.box) for thing in self.data.samples[index].instances if not thing.crowd]
        return bool(least and sides) and max(sides) <= least

    def _mixed(self, index: int) -> Drawn:
        """Mix with another picture that has objects, if one is found."""
        scene, size = self._joined(index)
        if self.rng.random() < self.config.mixup:
            others = (self._joined(self.partner())[0] for _ in range(TRIES))
            other = next((other for other in others if other.things), None)
            if other is not None:
                mirrored = self.rng.random() < self.config.flip_horizontal
                scene = mix(scene, other, self.config.crop, self.fill, mirrored)
                size = _size(scene)
        return scene, size

    def _joined(self, index: int) -> Drawn:
        """Make a mosaic and paste objects, as often as the settings say."""
        config, rng = self.config, self.rng
        if config.mosaic_kind == "canvas" and rng.random() < config.mosaic:
            pictures = [self._picture(one) for one in (index, *(self.partner() for _ in range(3)))]
            scene = make_canvas_mosaic(pictures, config, self.fill, self.resampling, rng)
            size = _size(scene)
        else:
            scene, size = self._single(index)
            if config.mosaic_kind == "crop" and rng.random() < config.mosaic:
                scene = self._mosaic(scene)
                size = _size(scene)
        if rng.random() < config.copy_paste:
            scene = paste_objects(scene, self._single(self.partner())[0], rng)
        return scene, size

    def _mosaic(self, first: Scene) -> Scene:
        """Return the size of the crop, or the size of the first picture if there is no crop."""
        height, width = (self.config.crop or side for side in _size(first))
        scenes = [first, *(self._single(self.partner())[0] for _ in range(3))]
        return make_mosaic(scenes, height, width, self.rng, self.fill)

    def _single(self, index: int) -> Drawn:
        """Return an augmented picture and the (height, width) of its file."""
        image, sample = self._picture(index)
        view, sample = self._view(sample)
        changed = augment(image, self.config, self.rng, self.resampling, self.stretch, view, self.fill)
        things = show(sample, changed.matrix, *changed.image.shape[:2])
        return Scene(changed.image, tuple(things), (sample.path,)), (sample.height, sample.width)

    def _view(self, sample: Sample) -> tuple[View | None, Sample]:
        """Draw the part of a picture to show, None for all, and return the sample with the objects that it shows."""
        config = self.config
        if config.surroundings == 1 and not config.part:
            return None, sample
        view = View(0, 0, sample.width, sample.height)
        if config.surroundings > 1:
            view = draw_surroundings(sample.height, sample.width, config.surroundings, self.rng)
        if config.part:
            things = [instance for instance in sample.instances if not instance.crowd]
            boxes = np.array([instance.box for instance in things], dtype=np.float64).reshape(-1, 4)
            view = draw_crop(view, boxes, self.rng)
            kept = [thing for thing, seen in zip(things, shows_centre(view, boxes).tolist(), strict=True) if seen]
            sample = replace(sample, instances=tuple(kept))
        return view, sample

    def _picture(self, index: int) -> Picture:
        image, sample = self.read(index), self.data.samples[index]
        if image.shape[:2] != (sample.height, sample.width):
            raise DataError(f"{sample.path}: the file has changed size since its annotation was read; start again")
        least = self.config.min_side_in_file
        if least:
            large = (thing for thing in sample.instances if _shorter_side(thing.box) > least)
            sample = replace(sample, instances=tuple(large))
        return image, sample


def _shorter_side(box: Box) -> float:
    x0, y0, x1, y1 = box
    return min(x1 - x0, y1 - y0)


def _size(scene: Scene) -> tuple[int, int]:
    height, width = scene.image.shape[:2]
    return height, width
