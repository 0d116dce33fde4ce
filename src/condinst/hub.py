"""The networks with their settings: loaded by name, saved to a folder and pushed to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from huggingface_hub import ModelCard, ModelHubMixin

from condinst.config import Config
from condinst.errors import CondinstError, ModelError
from condinst.model.blendmask import BlendMask as BlendMaskNetwork
from condinst.model.condinst import CondInst as CondInstNetwork
from condinst.model.heads.solo.decoupled_head import DecoupledHead
from condinst.model.heads.solo.solo_head import SOLOHead
from condinst.model.heads.solo.solov2_head import SOLOv2Head
from condinst.model.meinst import MEInst as MEInstNetwork
from condinst.model.rtmdet_ins import RTMDetIns as RTMDetInsNetwork
from condinst.model.solo import SoloNetwork
from condinst.model.yolact import Yolact as YolactNetwork
from condinst.weights.card import make_card
from condinst.weights.folder import fill_model, read_model, save_model
from condinst.weights.obtain import HubOptions
from condinst.weights.tensors import METHODS

CLASSES = {  # method → name of its class in this package
    "condinst": "CondInst",
    "rtmdet-ins": "RTMDetIns",
    "solo": "SOLO",
    "decoupled-solo": "DecoupledSOLO",
    "solov2": "SOLOv2",
    "yolact": "Yolact",
    "blendmask": "BlendMask",
    "meinst": "MEInst",
    "solov2-fcos": "CondInst",
    "yolact-fcos": "CondInst",
}


class HubModel(ModelHubMixin):
    """What the networks of all methods have in common. method: the value of model.method that the class is for."""

    method: str
    settings: Config

    @classmethod
    def _check_method(cls, settings: Config, source: object = "settings") -> None:
        held = settings.model.method
        if CLASSES[held] != CLASSES[cls.method]:
            raise ModelError(
                f"{source}: {METHODS[held]}, not {METHODS[cls.method]}; use condinst.{CLASSES[held]}, or "
                "condinst.Predictor for any model"
            )

    @classmethod
    def from_pretrained(  # type: ignore[override] # further keywords would have no meaning
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
    ) -> Self:
        """Load a model in evaluation mode.

        pretrained_model_name_or_path: a shipped or published name, a folder, a file, or owner/name on the hub. The
        keywords are those of huggingface_hub and apply to models on the hub. Raises ModelError for a model that cannot
        be found, downloaded or loaded, and for a model of another method than the class.
        """
        # replaces the mixin's method, which asks the hub for a config.json even for local models
        options = HubOptions(revision, token, cache_dir, force_download, local_files_only)
        stored = read_model(pretrained_model_name_or_path, options)
        cls._check_method(stored.config, pretrained_model_name_or_path)
        model = cls(stored.config)
        fill_model(model, stored)  # type: ignore[arg-type] # each subclass is a network
        return model

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Save the model to a folder. huggingface_hub documents the options.

        Raises CondinstError if the folder cannot be written.
        """
        try:
            Path(save_directory).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CondinstError(
                f"{save_directory}: cannot be written ({error.strerror}); choose another folder"
            ) from None
        return super().save_pretrained(save_directory, **options)

    def _save_pretrained(self, save_directory: Path) -> None:
        save_model(self, self.settings, save_directory)  # type: ignore[arg-type] # each subclass is a network

    def generate_model_card(self, *args: object, **kwargs: object) -> ModelCard:
        """Make the card that `save_pretrained` writes into a folder without a card."""
        return ModelCard(make_card(self.settings))


class CondInst(CondInstNetwork, HubModel):
    """CondInst network for float32 images (N, 3, H, W), normalised and padded. The output is a NetworkOutput.

    settings: the whole configuration. `Predictor.from_model(model, model.settings)` makes a predictor from the network.
    Raises ModelError if the backbone cannot be built, or if model.method is another one.
    """

    method = "condinst"

    def __init__(self, settings: Config) -> None:
        self._check_method(settings)
        super().__init__(settings.model)
        self.settings = settings


class RTMDetIns(RTMDetInsNetwork, HubModel):
    """RTMDet-Ins network for float32 images (N, 3, H, W), normalised and padded. The output is a NetworkOutput.

        model = condinst.RTMDetIns.from_pretrained("rtmdet-ins-s")

    settings: the whole configuration. `Predictor.from_model(model, model.settings)` makes a predictor from the network.
    Raises ModelError if the network cannot be built, or if model.method is another one.
    """

    method = "rtmdet-ins"

    def __init__(self, settings: Config) -> None:
        self._check_method(settings)
        super().__init__(settings.model)
        self.settings = settings


class SOLO(SoloNetwork, HubModel):
    """SOLO network for float32 images (N, 3, H, W), normalised and padded. The output is a SoloOutput.

    settings: the whole configuration. `Predictor.from_model(model, model.settings)` makes a predictor from the network.
    Raises ModelError if the network cannot be built, or if model.method is another one.
    """

    method = "solo"

    def __init__(self, settings: Config) -> None:
        self._check_method(settings)
        super().__init__(settings.model, head=SOLOHead)
        self.settings = settings


class DecoupledSOLO(SoloNetwork, HubModel):
    """Decoupled SOLO network for float32 images (N, 3, H, W), normalised and padded. The output is a SoloOutput.

    settings: the whole configuration. `Predictor.from_model(model, model.settings)` makes a predictor from the network.
    Raises ModelError if the network cannot be built, or if model.method is another one.
    """

    method = "decoupled-solo"

    def __init__(self, settings: Config) -> None:
        self._check_method(settings)
        super().__init__(settings.model, head=DecoupledHead)
        self.settings = settings


class SOLOv2(SoloNetwork, HubModel):
    """SOLOv2 network for float32 images (N, 3, H, W), normalised and padded. The output is a SoloOutput.

    settings: the whole configuration. `Predictor.from_model(model, model.settings)` makes a predictor from the network.
    Raises ModelError if the network cannot be built, or if model.method is another one.
    """

    method = "solov2"

    def __init__(self, settings: Config) -> None:
        self._check_method(settings)
        super().__init__(settings.model, head=SOLOv2Head)
        self.settings = settings


class Yolact(YolactNetwork, HubModel):
    """YOLACT network for float32 images (N, 3, H, W), normalised. The output is a YolactOutput.

        model = condinst.Yolact.from_pretrained("yolact-r50")

    settings: the whole configuration. `Predictor.from_model(model, model.settings)` makes a predictor from the network.
    Raises ModelError if the network cannot be built, or if model.method is another one.
    """

    method = "yolact"

    def __init__(self, settings: Config) -> None:
        self._check_method(settings)
        super().__init__(settings.model)
        self.settings = settings


class BlendMask(BlendMaskNetwork, HubModel):
    """BlendMask network for float32 images (N, 3, H, W), normalised and padded. The output is a NetworkOutput.

    settings: the whole configuration. `Predictor.from_model(model, model.settings)` makes a predictor from the network.
    Raises ModelError if the network cannot be built, or if model.method is another one.
    """

    method = "blendmask"

    def __init__(self, settings: Config) -> None:
        self._check_method(settings)
        super().__init__(settings.model)
        self.settings = settings


class MEInst(MEInstNetwork, HubModel):
    """MEInst network for float32 images (N, 3, H, W), normalised and padded. The output is a NetworkOutput.

    settings: the whole configuration. `Predictor.from_model(model, model.settings)` makes a predictor from the network.
    Raises ModelError if the network cannot be built, or if model.method is another one.
    """

    method = "meinst"

    def __init__(self, settings: Config) -> None:
        self._check_method(settings)
        super().__init__(settings.model)
        self.settings = settings
