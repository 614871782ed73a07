"""The model in NumPy, float64, a window and a step at a time, from what `dist_lstm.model` says of itself."""

from dataclasses import dataclass

import keras
import numpy as np

from dist_lstm.config.schema import ModelSettings
from dist_lstm.config.task import Task

HARMONICS = (1, 2, 3)
Weights = list[np.ndarray]


def signed_log(y: np.ndarray) -> np.ndarray:
    return np.sign(y) * np.log1p(np.abs(y))


def signed_power(z: np.ndarray) -> np.ndarray:
    return np.sign(z) * np.expm1(np.abs(z))


@dataclass(frozen=True)
class Normal:
    """A context, normalised: features `[T, F]`, base `[H]` and scale in transformed units."""

    features: np.ndarray
    base: np.ndarray
    scale: float


def location_and_scale(values_of_window: np.ndarray, method: str) -> tuple[float, float]:
    """Of the observed values of a window."""
    if method == "none":
        return 0.0, 1.0
    if len(values_of_window) == 0:
        return 0.0, 0.0
    if method == "standard":
        return values_of_window.mean(), values_of_window.std()
    if method == "minmax":
        return values_of_window.min(), values_of_window.max() - values_of_window.min()
    if method == "mean_abs":
        return 0.0, np.abs(values_of_window).mean()
    low, median, high = np.percentile(values_of_window, [25, 50, 75])
    # Next to the largest value a tiny range is none.
    return median, high - low if high - low > 1e-6 * np.abs(values_of_window).max() else np.abs(
        values_of_window - median
    ).mean()


def smoothed_level(z: np.ndarray, season: int, otherwise: float) -> float:
    """Exponentially smoothed level after the last step, by the constant with the least error of one step ahead."""
    z = z[-max(48, 4 * season) :]
    means = [z[max(0, end - season) : end] for end in range(1, len(z) + 1)]
    z = np.array([np.nan if np.isnan(one).all() else np.nanmean(one) for one in means])
    best, least = otherwise, np.inf
    for constant in (0.5, 0.3, 0.7, 0.1, 0.9):
        total = weight = error = 0.0
        for value in z:
            if not np.isnan(value) and weight > 0:
                error += abs(value - total / weight)
            total, weight = (1 - constant) * total, (1 - constant) * weight
            if not np.isnan(value):
                total, weight = total + value, weight + 1
        if weight > 0 and error < 0.999 * least:
            best, least = total / weight, error
    return best


def last_season(z: np.ndarray, season: int, otherwise: float) -> list[float]:
    """The last observed value at each of the `season` places before the cutoff, the earliest place first."""
    actual = []
    for position in range(len(z) - season, len(z)):
        while position >= 0 and np.isnan(z[position]):
            position -= season  # noqa: PLW2901
        actual.append(z[position] if position >= 0 else otherwise)
    return actual


def changes(z: np.ndarray, lag: int) -> np.ndarray:
    """Difference of each step to the one `lag` steps before; NaN where either is missing or there is none."""
    return np.array([z[step] - z[step - lag] if step >= lag else np.nan for step in range(len(z))])


def fill_gaps(y: np.ndarray, season: np.ndarray) -> np.ndarray:
    """One context, `[T]`, step by step; NaN before its first observed value."""
    seen = np.flatnonzero(~np.isnan(y))
    result = y.copy()
    for step in range(len(y)):
        if len(seen) and seen[0] <= step <= seen[-1]:
            result[step] = np.interp(step, seen, y[seen])
        elif len(seen) and step > seen[-1]:
            result[step] = season[(step - len(y)) % len(season)]
    return result


def normalise(
    y: np.ndarray,
    method: str,
    season: int,
    horizon: int,
    transform: np.ndarray | None = None,
    given: np.ndarray | None = None,
    fill: bool = False,
) -> Normal:
    """Normalise one context."""
    z = y.astype(np.float64)
    if transform is not None and transform[0]:
        z = signed_log(z)
    values_of_window = z[~np.isnan(z)]
    if method == "level":
        location = smoothed_level(z, season, 0.0)
        scale = np.abs(values_of_window - location).mean() if len(values_of_window) else 0.0
    else:
        location, scale = location_and_scale(values_of_window, method)
    if given is not None and not np.isnan(given[1]):
        location, scale = (float(one) for one in given)
    if len(values_of_window) == 0 or scale <= 1e-6 * abs(location):
        scale = 0.0
    kind = 0 if transform is None else int(transform[1])
    level, base, spread = location, np.full(horizon, location), scale
    if kind == 1:
        level = location if method == "level" else last_season(z, 1, location)[0]
        base = np.full(horizon, level)
    if kind == 2:
        last = last_season(z, season, location)
        level = np.mean(last)
        base = np.array([last[step % season] for step in range(horizon)])
        differences = np.abs(changes(z, season))
        if scale > 0 and method != "none" and not np.isnan(differences).all():
            spread = max(np.nanmean(differences), 0.01 * scale)
    sizes = np.abs(np.concatenate([values_of_window, np.zeros(1) if given is None else np.nan_to_num(given)]))
    unit = max(sizes) or 1.0
    filled = fill_gaps(z, last_season(z, season, location)) if fill else z
    features = [np.nan_to_num((filled - level) / (scale or unit)), ~np.isnan(z)]
    if transform is not None:
        change = changes(filled, season if kind == 2 else 1) if kind else np.zeros(len(z))
        features.append(np.nan_to_num(change / (spread or unit)))
    return Normal(np.stack(features, axis=1).astype(np.float64), base, spread)


def denormalise(scaled: np.ndarray, normal: Normal, transform: np.ndarray | None) -> np.ndarray:
    """Forecasts of a network, `[H, P]`, in target units."""
    z = normal.base[:, None] + scaled * normal.scale
    return signed_power(z) if transform is not None and transform[0] else z


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def lstm_step(x: np.ndarray, h: np.ndarray, c: np.ndarray, weights: Weights) -> tuple[np.ndarray, np.ndarray]:
    """The next hidden and cell state, `[U]`, a gate at a time."""
    kernel, recurrent, bias = weights
    w_i, w_f, w_g, w_o = np.split(kernel, 4, axis=1)
    r_i, r_f, r_g, r_o = np.split(recurrent, 4, axis=1)
    b_i, b_f, b_g, b_o = np.split(bias, 4)
    i = sigmoid(x @ w_i + h @ r_i + b_i)
    f = sigmoid(x @ w_f + h @ r_f + b_f)
    g = np.tanh(x @ w_g + h @ r_g + b_g)
    o = sigmoid(x @ w_o + h @ r_o + b_o)
    c = f * c + i * g
    return o * np.tanh(c), c


def lstm(steps: np.ndarray, weights: Weights) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All hidden states, `[T, U]`, and the last hidden and cell state."""
    h = c = np.zeros(weights[1].shape[0])
    states = []
    for x in steps:
        h, c = lstm_step(x, h, c, weights)
        states.append(h)
    return np.array(states), h, c


def weights_of(model: keras.Model, name: str) -> Weights:
    return [one.astype(np.float64) for one in model.get_layer(name).get_weights()]


def encode(model: keras.Model, steps: np.ndarray, settings: ModelSettings) -> tuple[np.ndarray, np.ndarray]:
    """Segments, `[S, F]`, to hidden and cell state at the cutoff."""
    hidden = cell = np.zeros(0)
    for number in range(len(settings.units)):
        if settings.bidirectional:
            weights = weights_of(model, f"both_ways_{number}")
            ahead, hidden, cell = lstm(steps, weights[:3])
            back, *state = lstm(steps[::-1], weights[3:])
            output = np.concatenate([ahead, back[::-1]], axis=1)
            hidden, cell = np.concatenate([hidden, state[0]]), np.concatenate([cell, state[1]])
        else:
            output, hidden, cell = lstm(steps, weights_of(model, f"lstm_{number}"))
        if settings.residual:
            same = steps.shape[1] == output.shape[1]
            skip = steps if same else steps @ weights_of(model, f"skip_{number}")[0]
            output, hidden = output + skip, hidden + skip[-1]
        steps = output
    return hidden, cell


def waves(positions: np.ndarray, task: Task, step: int) -> list[float]:
    """The calendar at a step counted from the first forecast step."""
    actual = []
    for position, cycle in zip(positions.astype(np.float64), task.freq.cycles, strict=True):
        now = position + step * cycle.advance
        if cycle.name == "weekday":
            now = np.floor(now + 1e-5)
        for harmonic in HARMONICS:
            angle = 2 * np.pi * harmonic * now / cycle.period
            actual += [np.sin(angle), np.cos(angle)]
    return actual


def mean_change(z: np.ndarray, lag: int, otherwise: float) -> float:
    """Mean absolute difference of two observed values `lag` steps apart."""
    sizes = np.abs(changes(z, lag))
    return otherwise if np.isnan(sizes).all() else float(np.nanmean(sizes))


def statistics(y: np.ndarray, season: int, transform: np.ndarray | None) -> tuple[np.ndarray, float]:
    """Statistics of a context, and its mean change from season to season."""
    is_log = transform is not None and bool(transform[0])
    z = signed_log(y.astype(np.float64)) if is_log else y.astype(np.float64)
    values = z[~np.isnan(z)]
    mean = values.mean() if len(values) else 0.0
    deviation = np.abs(values - mean).mean() if len(values) else 0.0
    by_season, by_step = mean_change(z, season, deviation), mean_change(z, 1, deviation)

    def ratio(part: float, whole: float) -> float:
        return min(part / whole if whole else np.inf, 1000.0) if part else 0.0

    level = 1.0 if is_log else abs(mean)
    logs = [np.log(ratio(deviation, level) + 1e-4) + 2]
    logs += [np.log(ratio(one, deviation) + 1e-2) for one in (by_season, by_step)]
    return np.clip(logs, -5, 5), by_season


def loss_weights(task: Task, settings: ModelSettings, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """How much the errors of each window count, `[B]`."""
    result = []
    for window in range(len(inputs["y"])):
        one = {name: values[window] for name, values in inputs.items()}
        scale = normalise_window(task, settings, one).scale
        change = statistics(one["y"], task.season_length, one.get("transform"))[1]
        ratio = scale / change if change else np.inf
        result.append(min(max(ratio, 0.05), 20.0) if scale else 0.05)
    return np.array(result)


def describe(model: keras.Model, task: Task, settings: ModelSettings, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """Statistics of one window, embeddings and numbers of its series."""
    actual = [np.zeros(0)]
    if settings.statistics:
        actual.append(statistics(inputs["y"], task.season_length, inputs.get("transform"))[0])
    if "series" in inputs:
        actual.append(weights_of(model, "series_embedding")[0][inputs["series"][0]])
    for number, category in enumerate(inputs.get("categories", ())):
        actual.append(weights_of(model, f"category_{number}")[0][category])
    if "numbers" in inputs:
        actual += [np.nan_to_num(inputs["numbers"]), ~np.isnan(inputs["numbers"])]
    return np.concatenate(actual)


def decode(
    model: keras.Model,
    state: tuple[np.ndarray, np.ndarray],
    inputs: dict[str, np.ndarray],
    task: Task,
    settings: ModelSettings,
) -> np.ndarray:
    """Raw head parameters of one window, `[H, P]`."""
    about, parameters = (
        describe(model, task, settings, inputs),
        len(task.quantiles) if settings.head == "quantile" else 1,
    )
    calendar = inputs.get("calendar", np.zeros(0))

    def at(step: int) -> list[float]:
        return waves(calendar, task, step) if len(calendar) else []

    hidden, cell = state
    if settings.decoder == "direct":
        kernel, bias = weights_of(model, "decoder")
        return (np.concatenate([hidden, about, at(0)]) @ kernel + bias).reshape(task.horizon, parameters)
    length = min(settings.segment_length or 0, task.horizon)
    positions = range(0, task.horizon, length)
    if settings.decoder == "segment":
        vectors, (kernel, bias) = weights_of(model, "places")[0], weights_of(model, "decoder")
        weights = weights_of(model, "decoder_lstm")
        numbers = []
        for number, position in enumerate(positions):
            query = np.concatenate([vectors[number], at(position), about])
            numbers.append(lstm_step(query, hidden, cell, weights)[0] @ kernel + bias)
    else:
        *weights, kernel, bias = weights_of(model, "decoder")
        last, numbers = np.zeros(length * parameters), []
        for position in positions:
            features = np.concatenate([at(position), about])
            features = features if len(features) else np.zeros(1)
            hidden, cell = lstm_step(np.concatenate([features, last]), hidden, cell, weights)
            last = hidden @ kernel + bias
            numbers.append(last)
    return np.concatenate(numbers).reshape(-1, parameters)[: task.horizon]


def ordered(raw: np.ndarray) -> np.ndarray:
    """Quantiles from raw parameters, `[H, Q]`: the median, and positive distances to both sides."""
    middle, gaps = raw.shape[1] // 2, np.log1p(np.exp(raw))
    actual = raw.copy()
    for level in range(middle + 1, raw.shape[1]):
        actual[:, level] = actual[:, level - 1] + gaps[:, level]
    for level in range(middle - 1, -1, -1):
        actual[:, level] = actual[:, level + 1] - gaps[:, level]
    return actual


def normalise_window(task: Task, settings: ModelSettings, inputs: dict[str, np.ndarray]) -> Normal:
    """Normalise the context of one window."""
    return normalise(
        inputs["y"],
        settings.scaling,
        task.season_length,
        task.horizon,
        inputs.get("transform"),
        inputs.get("series_scale"),
        fill=settings.fill_missing,
    )


def forecast_window(
    model: keras.Model, task: Task, settings: ModelSettings, inputs: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Forecasts of one window as the network makes them and in target units, both `[H, P]`."""
    normal = normalise_window(task, settings, inputs)
    length = settings.segment_length or 0
    about = describe(model, task, settings, inputs)
    segments = []
    for begin in range(0, task.context_length, length):
        now = waves(inputs["calendar"], task, begin - task.context_length) if "calendar" in inputs else []
        segments.append(np.concatenate([normal.features[begin : begin + length].ravel(), now, about]))
    raw = decode(model, encode(model, np.array(segments), settings), inputs, task, settings)
    scaled = ordered(raw) if settings.head == "quantile" else raw
    if settings.linear:
        scaled = scaled + (normal.features.ravel() @ weights_of(model, "linear")[0])[:, None]
    return scaled, denormalise(scaled, normal, inputs.get("transform"))


def forecast(
    model: keras.Model, task: Task, settings: ModelSettings, inputs: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The same for a batch, `[B, H, P]`."""
    windows = [{name: values[position] for name, values in inputs.items()} for position in range(len(inputs["y"]))]
    scaled, values = zip(*(forecast_window(model, task, settings, one) for one in windows), strict=True)
    return np.stack(scaled), np.stack(values)
