"""The moving average of RTMDet-Ins: mmdetection updates the tensors of its common tower several times in a step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from condinst.engine.averaging import moving_average
from condinst.model.rtmdet_ins import RTMDetIns
from condinst.recipes import load_recipe
from condinst.settings.model import HeadConfig, ModelConfig
from condinst.settings.training import TrainConfig
from condinst.weights.published.rtmdet import source_names
from tests.parity.rtmdet_formula import canonical

Note = Callable[[str, object], None]


@pytest.mark.parametrize("separate", [False, True])
def test_moving_average_of_the_network(reference: Path, separate: bool, record_property: Note) -> None:
    """Every tensor of the network moves as mmdetection's, and counters not at all."""
    recorded = np.load(reference / "rtmdet_ins" / "optim.npz")
    settings = ModelConfig.model_validate(
        load_recipe("rtmdet-ins-tiny").model.model_dump() | {"classes": ("a",), "fpn_channels": 8}
    ).model_copy(update={"head": HeadConfig(convs=2, channels=8, separate_box_tower=separate)})
    model = RTMDetIns(settings)
    sources = {name: source_names(name)[0] for name in model.state_dict() if "num_batches" not in name}
    updates = {name: model.ema_updates.get(name, 1) for name in sources}
    towers = ("bbox_head.cls_convs", "bbox_head.reg_convs")
    for name, source in sources.items():
        both = 1 if separate else 2
        expected = (both * (3 if source.endswith("conv.weight") else 1)) if source.startswith(towers) else 1
        assert updates[name] == expected, name
    assert set(model.ema_updates) <= set(sources)
    average = moving_average(model, TrainConfig(ema_decay=0.9998, ema_warmup=2000))
    own = {source: name for name, source in sources.items()}
    asked = {key: canonical(key) for key in map(str, recorded["ema.keys"]) if not separate or "cls_convs" not in key}

    def update(value: float) -> list[NDArray[np.float64]]:
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                if name in sources:
                    tensor.fill_(value)
        average.update_parameters(model)
        state = average.module.state_dict()
        return [state[own[source]].double().numpy() for source in asked.values()]

    columns = [at for at, key in enumerate(map(str, recorded["ema.keys"])) if key in asked]
    assert len(columns) == (4 if separate else 8)
    deviation = 0.0
    rows = [*recorded["ema.ratio_to_start"], recorded["ema.ratio_after_step20000"]]
    for step, row in enumerate(rows):
        if step == 4:
            average.n_averaged.fill_(20_000)
        found = update(4.0 if step == 4 else 1 + 0.5 * step)
        apart = [np.abs(values / row[at] - 1).max() for values, at in zip(found, columns, strict=True)]
        deviation = max(deviation, *apart)
    record_property("relative", float(deviation))
    assert deviation < 1e-6
