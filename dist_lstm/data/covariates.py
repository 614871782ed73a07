"""Model inputs per series other than its values: vocabularies, transform, scale, static covariates.

Axes: N series, K static covariates.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from dist_lstm.config.task import TRANSFORMS, Task
from dist_lstm.data.panel import STATIC, Panel
from dist_lstm.errors import UserError

_MOST_CATEGORIES = 100_000
_FLAGS = {"1": "true", "0": "false"}


@dataclass
class StaticValues:
    """Values of the static covariates, collected panel by panel.

    Attributes:
        categories: By name, the values seen so far.
        numbers: By name, count, sum and sum of squares of the values seen so far, `[3]`.
    """

    categories: dict[str, set[str]] = field(default_factory=dict)
    numbers: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, panel: Panel) -> None:
        """Collect the values of a panel.

        Args:
            panel: Series with static covariates as in the table.

        Raises:
            UserError: If a category has too many different values.
        """
        for column, values in panel.facts.items():
            name = column.removeprefix(STATIC)
            if values.dtype == object:
                met = self.categories.setdefault(name, set())
                met.update(value for value in values if value is not None)
                if len(met) > _MOST_CATEGORIES:
                    raise UserError(
                        "data.static_categories",
                        f"{name!r} has more than {_MOST_CATEGORIES:,} different values",
                        "leave it out, or set model.series_embedding for an embedding per series",
                    )
            else:
                observed = values[~np.isnan(values)]
                sums = np.array([len(observed), observed.sum(), (observed**2).sum()])
                self.numbers[name] = self.numbers.get(name, np.zeros(3)) + sums

    def vocabulary(self) -> tuple[dict[str, list[str]], dict[str, tuple[float, float]]]:
        """Sorted values of each category; mean and standard deviation of each number, 0 if all are equal."""
        moments = {}
        for name, (count, total, squares) in self.numbers.items():
            mean = total / max(count, 1)
            variance = squares / max(count, 1) - mean**2
            # Rounding of equal numbers must not be taken for variation.
            moments[name] = (float(mean), float(np.sqrt(variance)) if variance > 1e-12 * mean**2 else 0.0)
        return {name: sorted(met) for name, met in self.categories.items()}, moments


def encode_statics(
    panel: Panel, categories: Mapping[str, list[str]], numbers: Mapping[str, tuple[float, float]]
) -> dict[str, np.ndarray]:
    """Static covariates as model inputs.

    Args:
        panel: Series with static covariates as in the table.
        categories: Values of each category; the first becomes 1. Others and null become 0, which means unknown.
        numbers: Mean and standard deviation of each number.

    Returns:
        By column, `[N]`: indices of categories, int32, and standardised numbers, float32; NaN is missing.
    """
    encoded: dict[str, np.ndarray] = {}
    for name, values in categories.items():
        number = {value: index for index, value in enumerate(values, start=1)}
        if {*values} <= {*_FLAGS.values()}:  # other programs write booleans as 1 and 0
            number |= {digit: number[flag] for digit, flag in _FLAGS.items() if flag in number}
        given = panel.facts[STATIC + name]
        encoded[STATIC + name] = np.array([number.get(value, 0) for value in given], np.int32)
    for name, (mean, deviation) in numbers.items():
        scaled = (panel.facts[STATIC + name] - mean) / (deviation or 1.0)
        encoded[STATIC + name] = scaled.astype(np.float32)
    return encoded


def series_inputs(panel: Panel, task: Task) -> dict[str, np.ndarray]:
    """Model inputs that are the same for all windows of a series.

    Args:
        panel: Series as in the shards.
        task: The task.

    Returns:
        By name as in `input_spec`, each `[N, ...]`.
    """
    number, facts = len(panel.unique_id), panel.facts
    inputs: dict[str, np.ndarray] = {}
    if task.transformed:
        codes = np.array([TRANSFORMS[name] for name in facts["transform"]], np.int32)
        inputs["transform"] = codes.reshape(number, 2)
    if task.series_scaling:
        inputs["series_scale"] = _series_scale(facts, task.series_scaling, task.value_type, number)
    if task.series:
        inputs["series"] = facts["series"].astype(np.int32).reshape(number, 1)
    for key, names, kind in (
        ("categories", [name for name, _ in task.vocabulary.categories], np.int32),
        ("numbers", task.vocabulary.numbers, np.float32),
    ):
        if names:
            inputs[key] = np.stack([facts[STATIC + name] for name in names], axis=1).astype(kind)
    return inputs


def _series_scale(facts: Mapping[str, np.ndarray], method: str, value_type: str, number: int) -> np.ndarray:
    """Location and scale of each series' training range, `[N, 2]`; NaN if it does not vary."""
    zero = np.zeros(number)
    if method == "none":
        return np.stack([zero, zero + 1], axis=1).astype(value_type)
    location, scale = {
        "standard": lambda: (facts["mean"], facts["std"]),
        "robust": lambda: (facts["median"], np.where(facts["iqr"] > 0, facts["iqr"], facts["std"])),
        "minmax": lambda: (facts["min"], facts["max"] - facts["min"]),
        "mean_abs": lambda: (zero, facts["mean_abs"]),
    }[method]()
    # float32 rounds a large constant; float64 holds the values themselves.
    rounded = value_type == "float32"
    varies = scale > 1e-6 * np.abs(location) if rounded else facts["max"] > facts["min"]
    both = np.where(varies[:, None], np.stack([location, scale], axis=1), np.nan)
    return both.astype(value_type)
