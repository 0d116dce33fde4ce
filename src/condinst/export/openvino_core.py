"""OpenVINO's runtime, once for the whole process."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any


def openvino_core() -> Any:
    """The `openvino.Core` of this process, with its plugin for the CPU loaded. Raises ImportError without OpenVINO.

    The plugin sets a signal stack for the thread that loads it, and sets the earlier stack again when the last user of
    its core is gone. With several cores, or with another thread at the end, the earlier stack may be memory that is
    freed. The next signal with a handler, such as the end of a child process after PyTorch's DataLoader, then ends the
    process. So the core is never released.
    """
    import openvino

    return _core(openvino)


@functools.cache
def _core(openvino: ModuleType) -> Any:
    core = openvino.Core()
    core.get_versions("CPU")  # loads the plugin
    return core
