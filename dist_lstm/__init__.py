"""Train LSTMs to forecast time series, from a laptop's CPU to a cluster of GPUs.

    config  ->  prepare  ->  train  ->  backtest  ->  forecast  ->  report
    (YAML)      (shards)     (model)    (scores)      (table)       (one page)

`dist_lstm.run` shows the flow of one job from start to end. The command line is `dist-lstm --help`, the Python
interface is `Forecaster`. Importing this package imports nothing heavy.
"""

from typing import TYPE_CHECKING, Any

from dist_lstm.version import __version__

if TYPE_CHECKING:
    from dist_lstm.forecaster import Forecaster

__all__ = ["Forecaster", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Forecaster":
        from dist_lstm.forecaster import Forecaster

        return Forecaster
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
