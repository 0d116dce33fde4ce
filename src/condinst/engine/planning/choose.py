"""Choose settings from the data and the machine, once for all processes."""

from __future__ import annotations

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from condinst.config import Config
from condinst.data.sample import AnnotatedData
from condinst.engine.planning.machine import look_at_machine
from condinst.engine.planning.plan import Plan, make_plan
from condinst.engine.planning.settings import given_keys
from condinst.engine.planning.statistics import measure_data
from condinst.engine.planning.trial import measure_need
from condinst.engine.train import plain_memory_errors, usable


def plan_settings(
    config: Config,
    overrides: list[str],
    data: AnnotatedData,
    state: PartialState,
    val: AnnotatedData | None,
    fine_tuned: bool,
) -> Plan:
    """Choose the settings that the user did not give, the same in every process.

    val: data to measure on during training. Raises DataError for data without use, CondinstError without enough memory.
    """
    plans: list[Plan | None] = [None]
    if state.is_main_process:
        data = usable(data, config)
        machine, statistics = look_at_machine(state), measure_data(data)
        with plain_memory_errors(config):
            plans[0] = make_plan(
                config,
                given_keys(overrides),
                statistics,
                machine,
                lambda chosen: measure_need(chosen, data, val, state.device, machine.free),
                val is not None,
                fine_tuned,
            )
    (plan,) = broadcast_object_list(plans)
    assert isinstance(plan, Plan)
    return plan
