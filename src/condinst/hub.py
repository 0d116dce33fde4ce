"""The network with its settings: loaded by name, saved to a folder, pushed to the Hugging Face hub."""

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
    """Images (N, 3, H, W), normalised and padded → NetworkOutput; `settings` holds the whole configuration.

    `Predictor.from_model(model, model.settings)` segments pictures with it. Raises ModelError if the backbone cannot be
    built.
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
        """A shipped or published name, a folder, a file, or owner/name on the hub → the model, in evaluation mode.

        The keywords are huggingface_hub's and count for what lies on the hub. Raises ModelError for whatever cannot be
        found, fetched or used.
        """
        # not the mixin's own: it asks the hub for a config.json, even for names and folders that need no hub
        options = HubOptions(revision, token, cache_dir, force_download, local_files_only)
        stored = read_model(pretrained_model_name_or_path, options)
        model = cls(stored.config)
        fill_model(model, stored)
        return model

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """As huggingface_hub has it; raises CondinstError if the folder cannot be written."""
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
        """The card that `save_pretrained` writes where there is none yet."""
        return ModelCard(make_card(self.settings))
