"""Train LSTMs to forecast time series, from a laptop's CPU to a cluster of GPUs.

    config  ->  prepare  ->  train  ->  backtest  ->  forecast
    (YAML)      (shards)     (model)    (scores)      (table)

`dist_lstm.run` tells the flow of one job from top to bottom; the command line is `dist-lstm --help`.
"""

__version__ = "0.1.0"
