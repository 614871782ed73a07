"""The plan of a config: what a run would do, without training."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Column, Table

from dist_lstm.config.defaults import assume_measured, derive, resolve
from dist_lstm.config.load import leaves
from dist_lstm.config.resolved import MeasuredConfig
from dist_lstm.config.schema import Config
from dist_lstm.config.task import Task
from dist_lstm.data.manifest import Manifest
from dist_lstm.data.partition import MIB
from dist_lstm.data.prepare import describe, ingest
from dist_lstm.data.ranges import describe_split
from dist_lstm.data.sampling import BLOCK, TrainingWindows, make_sampling
from dist_lstm.data.shards import Shards
from dist_lstm.data.windows import Rolling, backtest_cutoffs
from dist_lstm.startup import start_tensorflow

_FLOAT = 4
#: Entries of the manifest that a plan does not show, or shows elsewhere.
_LEFT_OUT = {"shards", "fingerprint", "schema_version", "last", "ended"}


def make_plan(config: Config) -> dict[str, Any]:
    """Read the data and build the model as a run would.

    The shards are written to a temporary folder, which is deleted.

    Args:
        config: The job; settings may be left out.

    Returns:
        `config` (resolved), `derived` (default and reason of each setting left out), `data`, `split` (by which
        rule, and on which dates ranges begin), `windows` (of training, validation and test), `model`,
        `memory_mib` (an estimate, by purpose) and `devices`.

    Raises:
        UserError: If the config or the data can't be used.
    """
    with tempfile.TemporaryDirectory(prefix="dist-lstm-plan-") as scratch:
        folder = Path(scratch) / "shards"
        with ingest(config, folder) as dataset:
            resolved = resolve(config, dataset.statistics)
            shards = describe(dataset, resolved)
        manifest = shards.manifest
        # Only now, so that an error in the data is reported before TensorFlow is imported.
        start_tensorflow()
        from dist_lstm.data.stream import validation_windows
        from dist_lstm.model.lstm import build_model
        from dist_lstm.train.devices import describe_devices, make_strategy

        # Settings that training measures are estimated by their defaults.
        assumed = assume_measured(resolved, manifest.statistics)
        task, train = shards.make_task(assumed), assumed.train
        # Assumes nodes like this machine.
        replicas = make_strategy(resolved.resources).num_replicas_in_sync * resolved.resources.nodes
        windows = TrainingWindows(shards, task, make_sampling(assumed, whole=False))
        validation = validation_windows(shards, task, train.batch_size, train.seed, train.steps_per_epoch)
        tested = _tested(shards, task, Rolling.of(assumed.backtest))
    parameters = build_model(task, assumed.model).count_params()
    members = assumed.model.members
    derived = derive(config, manifest.statistics)
    return {
        "config": resolved.model_dump(mode="json"),
        "derived": {key: {"value": default.value, "why": default.why} for key, default in derived.items()},
        "data": manifest.model_dump(mode="json", exclude=_LEFT_OUT),
        "split": describe_split(manifest, task),
        "windows": {
            "training": windows.windows,
            "training_series": windows.series,
            "validation": validation.available,
            "validation_used": validation.used,
            **tested,
            "steps_per_epoch": train.steps_per_epoch,
            "max_steps": train.max_steps,
            "windows_drawn": train.max_steps * train.batch_size * members,
        },
        "model": {"parameters": parameters, "members": members, "replicas": replicas},
        "memory_mib": _memory(assumed, manifest, parameters),
        "devices": describe_devices(),
    }


def _tested(shards: Shards, task: Task, rolling: Rolling) -> dict[str, int]:
    """Windows that the backtest scores, and their series."""
    cutoffs = [backtest_cutoffs(group, task, rolling) for group in shards.row_groups()]
    series = sum(int((one.count > 0).sum()) for one in cutoffs)
    return {"test": sum(one.total for one in cutoffs), "test_series": series}


def _memory(config: MeasuredConfig, manifest: Manifest, parameters: int) -> dict[str, float]:
    """MiB that training needs beside TensorFlow itself, by purpose."""
    context, segment = config.task.context_length, config.model.segment_length
    window = context + config.task.horizon
    # Each step of an LSTM keeps four gates, two states and its input for the backward pass.
    per_window = sum(7 * units for units in config.model.units) * (context // segment) + 4 * window
    value = np.dtype(manifest.value_type).itemsize
    buffered = min(value * (manifest.steps + manifest.series * window), config.data.memory_budget * MIB // 3)
    batch = _FLOAT * config.train.batch_size
    estimate = {
        # Weights, gradient, and two moments of the optimizer; the best weights are kept as well.
        "weights": 5 * _FLOAT * parameters,
        "activations": batch * per_window / config.train.accumulate,
        "series": 2 * buffered,
        "batches": 4 * BLOCK * value * config.train.batch_size * window,
    }
    return {name: round(size / MIB, 1) for name, size in estimate.items()}


def show_plan(plan: dict[str, Any], console: Console) -> None:
    """Print a plan as a table.

    Args:
        plan: What `make_plan` returned.
        console: Where it is printed.
    """
    for section in ("data", "split", "windows", "model", "memory_mib"):
        table = Table(title=section.replace("_mib", " (MiB, estimated)"), title_justify="left", show_header=False)
        for name, value in plan[section].items():
            if not isinstance(value, dict):
                table.add_row(name, f"{value:,}" if isinstance(value, int | float) else str(value))
        console.print(table)
    console.print(_transforms(plan["data"]))
    longest = max(len(name) for name, _ in leaves(plan["config"]))
    columns = (
        Column("setting", no_wrap=True, width=longest),
        Column("value", overflow="fold"),
        Column("derived from", overflow="fold"),
    )
    table = Table(*columns, title="config", title_justify="left")
    for name, value in leaves(plan["config"]):
        table.add_row(name, str(value), plan["derived"].get(name, {}).get("why", ""))
    console.print(table)
    for device in plan["devices"]:
        console.print("device  " + ", ".join(f"{name} {value}" for name, value in device.items()))


def _transforms(data: dict[str, Any]) -> Table:
    """Series per transform, with the medians of the tests' results."""
    title = f"transforms ({data['tested']:,} series tested; medians)"
    numbers = ("series", "ADF p", "KPSS p", "season", "spread")
    columns = [Column(name, justify="right") for name in numbers]
    table = Table("transform", *columns, title=title, title_justify="left")
    for name, count in data["transforms"].items():
        result = data["evidence"].get(name, {})
        values = [result.get(key) for key in ("adf", "kpss", "seasonal_strength", "spread")]
        table.add_row(name, f"{count:,}", *("-" if value is None else f"{value:.2g}" for value in values))
    return table
