"""The network with its settings. It can be loaded by name, saved to a folder and pushed to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from huggingface_hub import ModelCard, ModelHubMixin

from condinst.config import Config
from condinst.errors import CondinstError
from condinst.model.condinst import CondInst as Network
from condinst.weights.card import make_card
from condinst.weights.folder import fill_model, read_model, save_model
from condinst.weights.obtain import HubOptions


class CondInst(Network, ModelHubMixin):
    """CondInst network for float32 images (N, 3, H, W), normalised and padded. The output is a NetworkOutput.

    settings: the whole configuration. `Predictor.from_model(model, model.settings)` makes a predictor from the network.
    Raises ModelError if the backbone cannot be built.
    """

    def __init__(self, settings: Config) -> None:
        super().__init__(settings.model)
        self.settings = settings

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
        be found, downloaded or loaded.
        """
        # replaces the mixin's method, which asks the hub for a config.json even for local models
        options = HubOptions(revision, token, cache_dir, force_download, local_files_only)
        stored = read_model(pretrained_model_name_or_path, options)
        model = cls(stored.config)
        fill_model(model, stored)
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
        save_model(self, self.settings, save_directory)

    def generate_model_card(self, *args: object, **kwargs: object) -> ModelCard:
        """Make the card that `save_pretrained` writes into a folder without a card."""
        return ModelCard(make_card(self.settings))
