"""Wording of reports: formatted numbers, metrics and scores in plain words."""

import math
from typing import Any

from dist_lstm.config.schema import SEASONAL_NAIVE
from dist_lstm.forecast.table import MODEL

_SPACE, _MINUS, _DASH = "\N{NO-BREAK SPACE}", "\N{MINUS SIGN}", "\N{EN DASH}"
NAMES = {MODEL: "LSTM", SEASONAL_NAIVE: "Seasonal naive", "DampedTrend": "Damped trend"}

#: Name and one-line meaning, by metric.
METRICS = {
    "mae": ("MAE", "Mean absolute error, in the unit of the data."),
    "rmse": ("RMSE", "Root of the mean squared error, in the unit of the data; large errors weigh more."),
    "smape": ("sMAPE", "Error in percent of the mean of forecast and actual; 0 to 200."),
    "mase": (
        "MASE",
        "Absolute error in units of a series\N{RIGHT SINGLE QUOTATION MARK} mean change over a season.",
    ),
    "rmsse": ("RMSSE", "The same for the squared error; large errors weigh more."),
    "wql": ("WQL", "Loss of the median and the intervals together, relative to the size of the values."),
    "owa": ("OWA", "Mean of sMAPE and MASE relative to those of Naive2, as in the M4 competition."),
    "seconds": ("Seconds", "Time in which these forecasts were made."),
}
TRANSFORMS = {
    "none": "forecast as it is",
    "log1p": "the logarithm is forecast",
    "difference": "the change since the last value is forecast",
    "seasonal_difference": "the change since the last season is forecast",
    "log1p_difference": "the change of the logarithm since the last value is forecast",
    "log1p_seasonal_difference": "the change of the logarithm since the last season is forecast",
}


def number(value: float | None) -> str:
    """Format a number.

    Args:
        value: The number.

    Returns:
        The number with 4 significant digits and thousands separators; a dash for NaN and None.

    Example:
        >>> number(1234567.0), number(0.123456), number(4)
        ('1,234,567', '0.1235', '4')
    """
    if value is None or math.isnan(value):
        return _DASH
    if math.isinf(value):
        return f"{_MINUS if value < 0 else ''}\N{INFINITY}"
    size = abs(value)
    if size == 0 or (float(value).is_integer() and size < 1e15):
        text = f"{value:,.0f}"
    elif size >= 1e15 or size < 1e-4:
        text = f"{value:.3e}"
    else:
        text = f"{value:,.{max(0, 3 - math.floor(math.log10(size)))}f}"
    return text.replace("-", _MINUS)


def percent(share: float | None, sign: bool = False) -> str:
    """A share as a percentage with one decimal, without decimals from 100 % on.

    Args:
        share: The share; NaN and None give a dash.
        sign: Whether positive shares get a plus sign.

    Returns:
        Text such as `15.2 %`.
    """
    if share is None or math.isnan(share):
        return _DASH
    if math.isinf(share):
        return f"{number(share)}{_SPACE}%"
    decimals = 0 if abs(share) >= 0.9995 else 1
    text = f"{100 * share:{'+' if sign else ''},.{decimals}f}"
    return f"{text.replace('-', _MINUS)}{_SPACE}%"


def metric_words(metric: str) -> tuple[str, str]:
    """Name and meaning of a metric of `metrics.json`."""
    if metric.startswith("coverage-"):
        level = f"{metric.removeprefix('coverage-')}{_SPACE}%"
        return f"Coverage {level}", f"Share of values inside the {level} interval; {level} would be exact."
    return METRICS.get(metric, (metric, ""))


def skill_sentence(scores: dict[str, Any] | None, test: int) -> str:
    """The skill of a run in one plain sentence.

    Args:
        scores: The section `backtest` of `metrics.json`; None where there is none.
        test: Steps of the test range.

    Returns:
        The sentence.
    """
    apostrophe = "\N{RIGHT SINGLE QUOTATION MARK}"
    if not test:
        return "No steps were kept for testing (split.test is 0), so its accuracy is unknown."
    if scores is None:
        return "It has not been scored yet; run dist-lstm backtest."
    if MODEL not in scores:
        return "No series is long enough to be scored on its test range."
    skill = scores.get("skill")
    if skill is None or math.isnan(skill):
        return (
            "It can\N{RIGHT SINGLE QUOTATION MARK}t be compared with the seasonal naive forecast: "
            "there is no series in which the errors of both are known."
        )
    over = f"over {scores['skill_series']:,} series"
    whose, others = f"The LSTM{apostrophe}s errors are", f"the seasonal naive forecast{apostrophe}s"
    if abs(skill) < 0.0005:
        return f"{whose} as large as {others}, {over}."
    if skill < -1:
        return f"{whose} {number(1 - skill)} times as large as {others}, {over}: it is the worse forecast."
    change = f"{100 * abs(skill):.{0 if abs(skill) >= 0.0995 else 1}f}{_SPACE}%"
    if skill < 0:
        return f"{whose} {change} larger than {others}, {over}: it is the worse forecast."
    return f"{whose} {change} smaller than {others}, {over}."
