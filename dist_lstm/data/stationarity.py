"""Which transform the series of a table need, and why.

A transform defines what is forecast: whether log(1 + y) is taken first, and to which base the forecast is a
difference. The window's location and scale are removed later whatever the transform, so a transform is only
worth its noise where one window differs from the next: the level wanders, a season repeats, or the spread
depends on the level. With `auto` series are tested on their training ranges, and the medians of the results decide
for all of them: tests of one series are noisy, and a model learns better from series that are treated alike.

    part        value                                condition
    log1p       log(1 + y) first                     no value is below 0, and spread > 0.5
    base        the value one season before          season_length > 1 and seasonal_strength > 0.8, or > 0.2 where
                                                     the median series has fewer than 50 seasons; otherwise
                the last observed value              season_length > 1, adf > 0.05 and kpss < 0.05; otherwise
                nothing

A spread proportional to level^b is made constant by the power 1 - b (Box & Cox 1964): no transform is right at
b = 0, the log at b = 1, so from 0.5 on the log is the nearer of the two. The log also shortens the tail of skewed
counts and sales. Where few series are long enough to tell how the spread grows, there is no log.

A difference doubles the variance of whatever does not repeat, and a network can learn a season by itself, if it
sees many. The threshold of the seasonal strength is therefore 0.8 then, and 0.2 else; R's `nsdiffs`, which serves
models that can't learn one, takes 0.64. For the same reason both tests have to agree that the level wanders: ADF
can't reject a unit root and KPSS rejects stationarity. A seasonal difference removes trend and level as well; no
second one follows. Without a season the scaling by default is that by the smoothed level, which follows the level
as well as a difference does.

Of many series about `LIMIT` are tested. Series are read panel by panel, twice: `examine_panel`, then `pool` and
`decide`, then `transform_panel`.

Axes: N series, S steps.
"""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from dist_lstm.data.panel import Panel
from dist_lstm.errors import UserError

#: About how many series are tested.
LIMIT = 1500

_SIGNIFICANCE = 0.05
_STRONG = 0.8
#: The same for series of fewer seasons than `_MANY_SEASONS`.
_STRONG_IN_FEW = 0.2
_MANY_SEASONS = 50
#: The least share of the tested series that must have a result of a test for their median to count.
_LEAST_SHARE = 0.5
_GROWS = 0.5
#: ADF and KPSS read the last steps; STL and the spread read more of them if a season is long.
_STEPS = 1000
_SEASONS = 8
_MOST_STEPS = 10_000
_FEWEST_STEPS = 10
#: With fewer seasons their mean is mostly noise: two of noise alone have a median strength of 0.5 to 0.7.
_FEWEST_SEASONS = 3
#: The spread of fewer steps is mostly chance.
_BLOCK = 8
_FEWEST_BLOCKS = 5
#: Over so small a range of the level, in logs, the log is a straight line.
_SAME_LEVEL = 0.01
#: SipHash key of the sample, other than that of the partition: its buckets must be sampled evenly.
_HASH_KEY = "stationarity-key"


@dataclass(frozen=True)
class Evidence:
    """Results of the tests of one series. NaN if a test is not possible or was not made.

    All but `spread` are about log(1 + y) where `decide` takes the log.

    Attributes:
        adf: p-value of the augmented Dickey-Fuller test; small: no unit root.
        kpss: p-value of the KPSS test of a stationary level, 0.01 to 0.1; small: not stationary.
        seasonal_strength: Share of the detrended variance that the season explains, 0 to 1.
        spread: Slope of log spread over log level, from block to block: 0 where the spread does not depend on
            the level, 1 where it is proportional. Also NaN if a value is below 0, or the standard error of the
            slope is too large.
    """

    adf: float = np.nan
    kpss: float = np.nan
    seasonal_strength: float = np.nan
    spread: float = np.nan

    @property
    def tested(self) -> bool:
        """Whether the series was tested and had enough values for it."""
        return self.kpss == self.kpss


#: Names of the fields, also in shards and manifest.
EVIDENCE = tuple(field.name for field in fields(Evidence))


def examine(y: np.ndarray, season_length: int) -> Evidence:
    """Test one series; only its last steps are read, missing values between them are interpolated.

    Source: Said & Dickey, Biometrika 71 (1984); Kwiatkowski, Phillips, Schmidt & Shin, Journal of Econometrics
    54 (1992); Wang, Smith & Hyndman, "Characteristic-based clustering for time series data", Data Mining and
    Knowledge Discovery 13 (2006), for the strength; Guerrero, Journal of Forecasting 12 (1993), for the blocks
    of the spread.

    Args:
        y: Values of the training range, `[S]`, in target units. NaN is a missing value.
        season_length: Steps in a season; 1 for none.

    Returns:
        The evidence; all NaN where the values are constant or too few.
    """
    values = _last_steps(y, min(max(_STEPS, _SEASONS * season_length), _MOST_STEPS))
    recent = values[-_STEPS:]
    if len(recent) < _FEWEST_STEPS or recent.min() == recent.max():
        return Evidence()
    spread = _spread(values, season_length)
    if spread > _GROWS:
        values = np.log1p(values)
    # Nothing below depends on the unit; without it no square of an extreme value leaves the range of float64.
    location, scale = values[-_STEPS:].mean(), values[-_STEPS:].std()
    values = (values - location) / scale
    recent = values[-_STEPS:]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # statsmodels sets filters of its own while it is imported: ours have to come after.
        from statsmodels.tsa.stattools import adfuller, kpss

        # KPSS warns where p is outside of its table and returns the table's bound, which is all that is needed.
        warnings.simplefilter("ignore")
        # Lags grow as Said & Dickey ask, for both tests: the number that KPSS finds by itself can be NaN.
        lags = int((len(recent) - 1) ** (1 / 3))
        return Evidence(
            float(adfuller(recent, maxlag=lags, autolag=None, result_object=True).pvalue),
            float(kpss(recent, nlags=lags, result_object=True).pvalue),
            _seasonal_strength(values, season_length),
            spread,
        )


def _last_steps(y: np.ndarray, most: int) -> np.ndarray:
    """The last steps up to the last observed one, float64, missing values between observed ones interpolated."""
    observed = np.flatnonzero(~np.isnan(y))
    if not len(observed):
        return np.zeros(0)
    observed = observed[observed > observed[-1] - most]
    return np.interp(np.arange(observed[0], observed[-1] + 1), observed, y[observed].astype(np.float64))


def _seasonal_strength(values: np.ndarray, season_length: int) -> float:
    """Strength of the season in STL; NaN without a season or with too few of them."""
    from statsmodels.tsa.seasonal import STL

    if season_length < 2 or len(values) < _FEWEST_SEASONS * season_length:
        return np.nan
    # Seasons are averaged (degree 0): a line through each step of the season fits noise of few seasons too well.
    # Smoothing only each tenth of a season keeps a season of hundreds of steps as fast as a short one.
    jump = season_length // 10 + 1
    parts = STL(values, season_length, seasonal=11, seasonal_deg=0, trend_jump=jump, low_pass_jump=jump).fit()
    detrended = float(np.var(parts.resid + parts.seasonal))
    return max(0.0, 1.0 - float(np.var(parts.resid)) / detrended) if detrended > 0 else np.nan


def _spread(values: np.ndarray, season_length: int) -> float:
    """Slope of log standard deviation over log mean of blocks of whole seasons."""
    size = season_length * -(-_BLOCK // season_length)
    blocks = values[len(values) % size :].reshape(-1, size)
    level, spread = blocks.mean(axis=1), blocks.std(axis=1)
    usable = (level > 0) & (spread > 0)
    if values.min() < 0 or usable.sum() < _FEWEST_BLOCKS:
        return np.nan
    x, y = np.log(level[usable]), np.log(spread[usable])
    if np.ptp(x) < _SAME_LEVEL:
        return np.nan
    x, y = x - x.mean(), y - y.mean()
    slope = x @ y / (x @ x)
    error = np.sqrt(((y - slope * x) ** 2).sum() / (len(x) - 2) / (x @ x))
    return float(slope) if error <= max(_GROWS, abs(slope)) / 2 else np.nan


def decide(evidence: Evidence, season_length: int, steps: int) -> str:
    """The transform that follows from the evidence, by the table at the head of this module.

    Args:
        evidence: Test results of one series, or the medians of many.
        season_length: Steps in a season; 1 for none.
        steps: Length of the series, or the median of many.

    Returns:
        One of `TRANSFORMS`; `none` if nothing could be tested.

    Example:
        >>> decide(Evidence(adf=0.4, kpss=0.01, seasonal_strength=0.5, spread=0.9), season_length=12, steps=9000)
        'log1p_difference'
        >>> decide(Evidence(adf=0.4, kpss=0.01, seasonal_strength=0.5, spread=0.1), season_length=12, steps=90)
        'seasonal_difference'
    """
    base = ""
    strong = _STRONG if steps >= _MANY_SEASONS * season_length else _STRONG_IN_FEW
    if season_length > 1 and evidence.seasonal_strength > strong:
        base = "seasonal_difference"
    elif season_length > 1 and evidence.adf > _SIGNIFICANCE and evidence.kpss < _SIGNIFICANCE:
        base = "difference"
    return _join(evidence.spread > _GROWS, base)


def _join(log: bool, base: str) -> str:
    return "_".join(["log1p"] * log + [base] * (base != "")) or "none"


def _split(transform: str) -> tuple[bool, str]:
    log = transform.startswith("log1p")
    return log, "" if transform == "none" else transform.removeprefix("log1p").removeprefix("_")


def allowed(transform: str, y: np.ndarray, season_length: int) -> str:
    """A transform, reduced to what is possible for a series.

    Args:
        transform: One of `TRANSFORMS`.
        y: All values of the series, `[S]`, in target units. NaN is a missing value. Validation and test range
            are included: their values are transformed too, and a log of them has to exist. Nothing else is
            learnt from them than whether one is negative.
        season_length: Steps in a season; 1 for none.

    Returns:
        The transform without the log if a value is below 0; with the difference to the last value instead of
        the seasonal one if the series is no longer than a season or there is no season.

    Example:
        >>> allowed("log1p_seasonal_difference", np.array([1.0, -2.0, 3.0]), season_length=12)
        'difference'
    """
    log, base = _split(transform)
    if base == "seasonal_difference" and not 1 < season_length < len(y):
        base = "difference"
    return _join(log and not (y < 0).any(), base)


def sampled(unique_id: np.ndarray, total: int) -> np.ndarray:
    """Which series are tested: about `LIMIT` of all, by a hash of the name, whatever their order and panel.

    Args:
        unique_id: Names of some of the series, `[N]`.
        total: How many series there are in all.

    Returns:
        True for the series to test, `[N]`; for all if there are no more than `LIMIT`.
    """
    if total <= LIMIT:
        return np.ones(len(unique_id), bool)
    hashes = pd.util.hash_array(unique_id.astype(object), hash_key=_HASH_KEY, categorize=False)
    return hashes < np.uint64(2**64 * LIMIT // total)


def examine_panel(panel: Panel, end: np.ndarray, season_length: int, total: int) -> dict[str, np.ndarray]:
    """Test the sampled series of a panel on their training range.

    Args:
        panel: The series.
        end: Steps of the training range of each series, `[N]`.
        season_length: Steps in a season; 1 for none.
        total: How many series there are in all panels.

    Returns:
        The fields of `Evidence` by name, each `[N]`, float64; NaN where not tested.
    """
    result = {key: np.full(len(panel.unique_id), np.nan) for key in EVIDENCE}
    for number in np.flatnonzero(sampled(panel.unique_id, total)):
        begin = panel.offset[number]
        evidence = examine(panel.y[begin : begin + end[number]], season_length)
        for key in EVIDENCE:
            result[key][number] = getattr(evidence, key)
    return result


def pool(evidence: Iterable[Mapping[str, np.ndarray]]) -> Evidence:
    """The evidence of all series together: the median of each result over the series that have it.

    Args:
        evidence: Results of `examine_panel`, panel by panel, each `[N]`; NaN where not tested.

    Returns:
        The medians; NaN where fewer than half of the tested series have the result.

    Example:
        >>> panels = [dict.fromkeys(EVIDENCE, np.array(values)) for values in ([0.1, 0.3], [np.nan])]
        >>> pool(panels).spread
        0.2
    """
    panels = [*evidence]
    columns = {name: np.concatenate([np.zeros(0), *(one[name] for one in panels)]) for name in EVIDENCE}
    least = max(_LEAST_SHARE * np.isfinite(columns["kpss"]).sum(), 1)
    medians = (np.nanmedian(one) if np.isfinite(one).sum() >= least else np.nan for one in columns.values())
    return Evidence(*map(float, medians))


def transform_panel(panel: Panel, season_length: int, transform: str, strict: bool) -> np.ndarray:
    """The transform of each series of a panel.

    Args:
        panel: The series, all steps.
        season_length: Steps in a season; 1 for none.
        transform: That of all series, one of `TRANSFORMS`.
        strict: Whether a log has to be possible; else a series with a value below 0 goes without.

    Returns:
        Names out of `TRANSFORMS`, `[N]`, object; reduced as in `allowed`.

    Raises:
        UserError: If a log is not possible but has to be.
    """
    chosen = np.empty(len(panel.unique_id), object)
    for number in range(len(panel.unique_id)):
        y = panel.y[panel.offset[number] : panel.offset[number + 1]]
        chosen[number] = allowed(transform, y, season_length)
        if strict and transform.startswith("log1p") and not chosen[number].startswith("log1p"):
            raise UserError(
                "data.transform",
                (
                    f"{transform} needs values of at least 0, unique_id {panel.unique_id[number]!r} has "
                    f"{np.nanmin(y):g}"
                ),
                f"choose auto or {_split(transform)[1] or 'difference'}",
            )
    return chosen


def summarise(transform: np.ndarray, evidence: list[dict[str, np.ndarray]]) -> dict[str, Any]:
    """A summary of the tests for the manifest.

    Args:
        transform: Transforms of all series, `[N]`.
        evidence: Results of `examine_panel`, panel by panel.

    Returns:
        `tested`, the number of tested series; `evidence`, by transform the median of each field of `Evidence` over
        its tested series, None if all of them are NaN.
    """
    table = pd.DataFrame({key: np.concatenate([one[key] for one in evidence]) for key in EVIDENCE})
    tested = table["kpss"].notna()
    medians = table[tested].groupby(transform[tested]).median()
    rows = {str(name): row.astype(object).where(row.notna(), None).to_dict() for name, row in medians.iterrows()}
    return {"tested": int(tested.sum()), "evidence": rows}
