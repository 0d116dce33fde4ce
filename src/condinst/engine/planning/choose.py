"""The settings that nobody has chosen, decided once for all processes."""

from __future__ import annotations

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from condinst.config import Config
from condinst.data.sample import AnnotatedData
from condinst.engine.planning.machine import look_at_machine, weigh_picture
from condinst.engine.planning.plan import Plan, make_plan
from condinst.engine.planning.settings import given_keys
from condinst.engine.planning.statistics import measure_data
from condinst.engine.train import usable


def plan_settings(
    config: Config,
    overrides: list[str],
    data: AnnotatedData,
    state: PartialState,
    measured: bool,
    fine_tuned: bool,
) -> Plan:
    """What the data and the machine decide, the same in every process. Raises DataError for data of no use."""
    plans: list[Plan | None] = [None]
    if state.is_main_process:
        data = usable(data, config)
        machine, statistics = look_at_machine(config, state), measure_data(data)
        plans[0] = make_plan(
            config,
            given_keys(overrides),
            statistics,
            machine,
            lambda chosen: weigh_picture(chosen, data, state.device),
            measured,
            fine_tuned,
        )
    (plan,) = broadcast_object_list(plans)
    assert isinstance(plan, Plan)
    return plan
