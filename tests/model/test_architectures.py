"""Combinations of what a model can be made of: in NumPy, saved and loaded, trained, and forecast."""

import itertools
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from dist_lstm.config.frequency import Frequency
from dist_lstm.config.schema import ModelSettings
from dist_lstm.config.task import TRANSFORMS, Task, Vocabulary, input_spec
from dist_lstm.model.heads import head_loss
from dist_lstm.model.lstm import build_model
from dist_lstm.train.checkpoint import load_model, save_model
from dist_lstm.train.optimizer import clip
from dist_lstm.train.step import summed_loss
from tests.model import oracle
from tests.model.test_scaling import magnitudes

#: What a model can be made of. A horizon of 5 is no multiple of a segment of 3.
AXES = {
    "decoder": ("direct", "segment", "recursive"),
    "bidirectional": (False, True),
    "residual": (False, True),
    "covariates": ("nothing", "series", "statics", "calendar", "all"),
    "head": ("quantile", "mae", "mse", "huber"),
    "values": ("raw", "transformed", "by series", "transformed by series"),
    "linear": (True, False),
}
Choice = dict[str, object]
CONTEXT, HORIZON = 12, 5


def covering(every: list[Choice], strength: int) -> list[Choice]:
    """Combinations that contain every group of `strength` choices of different axes, chosen greedily."""
    groups = [(choice, set(itertools.combinations(choice.items(), strength))) for choice in every]
    missing = set().union(*(group for _, group in groups))
    # Any order will do; a fixed one that is not sorted covers them sooner.
    np.random.default_rng(0).shuffle(groups)
    chosen = []
    while missing:
        choice, group = max(groups, key=lambda one: len(one[1] & missing))
        chosen.append(choice)
        missing -= group
    return chosen


def every_combination(names: Iterable[str] = tuple(AXES)) -> list[Choice]:
    axes = {name: AXES[name] for name in names}
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def name_of(choice: Choice) -> str:
    flags = [name for name, value in choice.items() if value is True]
    return "-".join([str(value) for value in choice.values() if not isinstance(value, bool)] + flags)


def make(choice: Choice, number: int = 0, **changes: object) -> tuple[Task, ModelSettings]:
    """Task and settings; the number picks what the axes leave open."""
    covariates, values = choice["covariates"], str(choice["values"])
    scaling = ("robust", "standard", "minmax", "mean_abs", "level", "none")[number % 6]
    categories = (("colour", 2), ("shape", 5)) if covariates in ("statics", "all") else ()
    settings = {
        "segment_length": (3, 3, 1, 12)[number % 4],
        "units": ((5, 4), (4, 4), (3,))[number % 3],
        "scaling": scaling,
        "scaling_by": "series" if "by series" in values else "window",
        "series_embedding": 3 if covariates in ("series", "all") else 0,
        "calendar": covariates in ("calendar", "all"),
        "statistics": number % 2 == 0,
        "loss_unit": ("scale", "seasonal_change")[number // 2 % 2],
        "dropout": 0.2,
        **{name: choice[name] for name in ("decoder", "bidirectional", "residual", "head", "linear")},
    }
    task = Task(
        horizon=HORIZON,
        context_length=CONTEXT,
        min_context=1,
        freq=Frequency("h"),
        season_length=(4, 1, 7, 24)[number % 4],
        levels=(80.0,) if choice["head"] == "quantile" else (),
        validation=5,
        test=5,
        transformed="transformed" in values,
        series_scaling=scaling if "by series" in values else None,
        series=4 if covariates in ("series", "all") else 0,
        vocabulary=Vocabulary(4, categories, ("price", "size") if categories else ()),
        calendar=covariates in ("calendar", "all"),
    )
    return task, ModelSettings.model_validate(settings | changes)


def make_inputs(task: Task, y: np.ndarray) -> dict[str, np.ndarray]:
    """Inputs of a batch: every transform and every kind of unknown among them."""
    generator, batch = np.random.default_rng(4), len(y)
    sizes = [size for _, size in task.vocabulary.categories]
    scale = np.stack([generator.normal(2, 1, batch), generator.uniform(1, 3, batch)], axis=1)
    scale[::3] = np.nan
    numbers = generator.normal(size=(batch, 2))
    numbers[::2, 1] = np.nan
    calendar = generator.uniform(0, 1, (batch, 3)) * [24, 7, 12]
    made = {
        "y": y,
        "transform": np.array(list(TRANSFORMS.values()))[np.arange(batch) % len(TRANSFORMS)],
        "series_scale": scale,
        "calendar": np.floor(calendar * [1, 24, 24]) / [1, 24, 24],
        "series": generator.integers(0, task.series + 1, (batch, 1)),
        "categories": generator.integers(0, [size + 1 for size in sizes] or [1], (batch, max(len(sizes), 1))),
        "numbers": numbers,
    }
    return {name: np.asarray(made[name], kind) for name, (_, kind) in input_spec(task).items()}


def contexts() -> np.ndarray:
    y = np.random.default_rng(3).normal(3, 2, (12, CONTEXT)).astype(np.float32)
    y[1, :9] = np.nan
    y[2, 7] = y[2, 11] = np.nan
    y[3] = np.nan
    y[4] = 2.5
    y[5, :11] = np.nan
    return y


def randomised(model: keras.Model) -> keras.Model:
    """A model none of whose weights is 0: what starts at 0 could hide."""
    generator = np.random.default_rng(6)
    model.set_weights([generator.normal(0, 0.3, one.shape) for one in model.get_weights()])
    return model


def unread(path: str, settings: ModelSettings) -> bool:
    """Whether these weights may have no use: those of an LSTM's only step, which reads nothing but zeros."""
    single = settings.decoder == "recursive" and settings.segment_length >= HORIZON
    return "recurrent" in path or (single and path == "feedback_cell/lstm/kernel")


def check_equations(choice: Choice, number: int) -> tuple[keras.Model, Task, ModelSettings]:
    """Compare a model with the oracle."""
    task, settings = make(choice, number)
    model, inputs = randomised(build_model(task, settings)), make_inputs(task, contexts())
    spec = input_spec(task)
    assert {one.name: (one.shape[1:], one.dtype) for one in model.inputs} == spec
    expected_scaled, expected = oracle.forecast(model, task, settings, inputs)
    actual = {name: one.numpy() for name, one in model(inputs).items()}
    np.testing.assert_allclose(actual["scaled"], expected_scaled, rtol=1e-3, atol=2e-4)
    np.testing.assert_allclose(actual["forecast"], expected, rtol=2e-3, atol=1e-3)
    assert ("weight" in actual) == (settings.loss_unit == "seasonal_change")
    if "weight" in actual:
        expected = oracle.loss_weights(task, settings, inputs)
        np.testing.assert_allclose(actual["weight"][:, 0], expected, rtol=1e-3)
    return model, task, settings


def check(choice: Choice, number: int, folder: Path) -> None:
    """Compare a model with the oracle, save, load and train it."""
    model, task, settings = check_equations(choice, number)
    inputs, spec = make_inputs(task, contexts()), input_spec(task)
    actual = {name: one.numpy() for name, one in model(inputs).items()}
    save_model(model, folder / "model.keras")
    loaded = load_model(folder / "model.keras")
    assert {one.name: (one.shape[1:], one.dtype) for one in loaded.inputs} == spec
    for name, values in loaded(inputs).items():
        np.testing.assert_array_equal(values, actual[name])

    target = np.random.default_rng(5).normal(3, 2, (len(inputs["y"]), HORIZON)).astype(np.float32)
    with tf.GradientTape() as tape:
        total, count = summed_loss(loaded, head_loss(settings.head, task), inputs, target, training=True)
    gradients = tape.gradient(total, loaded.trainable_variables)
    assert count > 0
    for variable, gradient in zip(loaded.trainable_variables, gradients, strict=True):
        values = tf.convert_to_tensor(gradient).numpy()
        assert np.isfinite(values).all(), variable.path
        assert (values != 0).any() or unread(variable.path, settings), variable.path


CHOSEN = covering(every_combination(), strength=2)
#: The axes of the equations; the heads share all that comes before them.
STRUCTURE = ("decoder", "bidirectional", "residual", "covariates", "values")
#: Every four choices of different axes meet in one.
COMPUTED = covering(every_combination(STRUCTURE), strength=4)
#: Those that are saved, loaded and trained as well: every three choices meet in one.
TRAINED = covering(COMPUTED, strength=3)


def test_the_chosen_combinations_hold_every_pair_of_choices():
    pairs = Counter(pair for choice in CHOSEN for pair in itertools.combinations(choice.items(), 2))
    sizes = [len(values) for values in AXES.values()]
    assert len(pairs) == sum(one * two for one, two in itertools.combinations(sizes, 2))
    assert len(CHOSEN) <= 30


@pytest.mark.parametrize(("number", "choice"), list(enumerate(CHOSEN)), ids=[name_of(choice) for choice in CHOSEN])
def test_a_model_computes_its_equations_and_is_saved_loaded_and_trained(tmp_path, number, choice):
    check(choice, number, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("decoder", AXES["decoder"])
@pytest.mark.parametrize("bidirectional", AXES["bidirectional"])
def test_every_four_choices_compute_their_equations_and_every_three_are_saved_loaded_and_trained(
    tmp_path, decoder, bidirectional
):
    for number, structure in enumerate(COMPUTED):
        if (structure["decoder"], structure["bidirectional"]) == (decoder, bidirectional):
            keras.backend.clear_session()
            choice = structure | {"head": "quantile", "linear": number % 2 == 0}
            if structure in TRAINED:
                check(choice, number, tmp_path)
            else:
                check_equations(choice, number)


@pytest.mark.parametrize("head", ["quantile", "mse"])
@pytest.mark.parametrize("values", ["transformed", "transformed by series"])
@pytest.mark.parametrize("number", range(5))
def test_loss_and_gradient_are_finite_on_windows_of_every_magnitude(number, values, head):
    decoder, flag = AXES["decoder"][number % 3], number % 2 == 0
    choice = {"decoder": decoder, "bidirectional": flag, "residual": not flag, "head": head, "linear": True}
    task, settings = make(choice | {"covariates": "all", "values": values}, number)
    model, batch = randomised(build_model(task, settings)), 600
    inputs = make_inputs(task, magnitudes(np.random.default_rng(number), (batch, CONTEXT)))
    # As many windows of one magnitude each, and some that are all but constant.
    sizes = 10.0 ** np.random.default_rng(1).uniform(-36, 37, (batch // 3, 1))
    inputs["y"][::3] = np.random.default_rng(2).normal(5, 1, (batch // 3, CONTEXT)) * sizes
    inputs["y"][1::60] = sizes[:10] * (1 + 1e-7 * np.random.default_rng(3).normal(size=(10, CONTEXT)))
    if "series_scale" in inputs:
        scale = np.abs(magnitudes(np.random.default_rng(4), (batch, 2)))
        scale[np.isnan(scale).any(axis=1)] = np.nan
        logged = inputs["transform"][:, :1] == 1
        inputs["series_scale"] = np.where(logged, oracle.signed_log(scale), scale).astype(np.float32)
    target = magnitudes(np.random.default_rng(5), (batch, HORIZON))
    outputs = model(inputs)
    for values_ in outputs.values():
        assert np.isfinite(values_).all()
    with tf.GradientTape() as tape:
        total, count = summed_loss(model, head_loss(head, task), inputs, target, training=True)
    gradients = [tf.convert_to_tensor(one) for one in tape.gradient(total, model.trainable_variables)]
    assert count > batch
    assert np.isfinite(total)
    clipped, _ = clip([gradient / count for gradient in gradients], 1.0)
    for one in (*gradients, *clipped):
        assert np.isfinite(one).all()
    norm = np.sqrt(sum((one.numpy().astype(np.float64) ** 2).sum() for one in clipped))
    assert norm <= 1 + 1e-5
