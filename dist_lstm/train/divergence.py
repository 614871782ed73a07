"""Whether a training diverged: its loss is not finite, or far above that of an earlier training."""

from collections.abc import Sequence

import numpy as np

from dist_lstm.errors import UserError

#: How many times the loss of the first model a refit may have. Two good trainings differ by some percent.
_MOST = 2.0
#: In units of scale: below it, losses are small whatever their ratio.
_SMALL = 0.01


class DivergedError(UserError):
    """The loss became non-finite, at half the learning rate as well."""


def divergence(
    first: float, refit: float, validation: float, weights: Sequence[np.ndarray] | None = None
) -> str | None:
    """Why a refit has diverged.

    A refit sees more steps than the first model, so on windows that both were trained on it should be about as
    good. It counts as diverged if its loss there is more than twice the first model's, and more than twice the
    first model's loss on windows that this was not even trained on. That finds divergence only, not a refit that
    is a little worse.

    Args:
        first: Loss of the first model on windows that both were trained on, in units of scale; NaN if nothing
            counts.
        refit: Loss of the refit on the same windows; infinity if its forecasts are non-finite.
        validation: Loss of the first model on the validation windows; NaN without any.
        weights: Weights of the refit, of any shape.

    Returns:
        The reason in a few words; None if it has not diverged.

    Example:
        >>> divergence(first=0.4, refit=0.5, validation=0.6)
        >>> divergence(first=0.4, refit=3.1, validation=0.6)
        'its loss on the training range is 3.1, that of the first model 0.4'
        >>> divergence(first=0.4, refit=float("inf"), validation=0.6)
        'its forecasts are not finite'
    """
    if not all(np.isfinite(one).all() for one in weights or ()):
        return "its weights are not finite"
    if np.isinf(refit):
        return "its forecasts are not finite"
    limit = _MOST * np.nanmax([first, validation, _SMALL])
    if refit > limit:
        return f"its loss on the training range is {refit:.4g}, that of the first model {first:.4g}"
    return None
