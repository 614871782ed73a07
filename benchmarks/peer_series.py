"""neuralforecast's LSTM fitted once per series, for `bench_fleet.py`; run by a Python that has neuralforecast.

    python benchmarks/peer_series.py TABLE SERIES UPDATES     # prints one line of JSON

Context, units, horizon, batch and number of updates are the same; logger, checkpoints, progress bar and validation
are off, and the decoder is one linear layer, as in dist_lstm. The first series is a warm-up and not timed.
"""

# pyright: reportMissingImports=false
import json
import logging
import sys
import time
import warnings
from importlib.metadata import version

HORIZON, CONTEXT, UNITS, BATCH = 18, 24, 32, 32


def main() -> None:
    """Fit series one after the other; print seconds and versions."""
    import pandas as pd
    import torch
    from neuralforecast import NeuralForecast
    from neuralforecast.losses.pytorch import MAE
    from neuralforecast.models import LSTM

    path, series, updates = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(1)  # two are slower for a model this small
    table = pd.read_parquet(path)
    begin = used = 0.0
    for number, name in enumerate(sorted(table["unique_id"].unique())[: series + 1]):
        if number == 1:
            begin, used = time.perf_counter(), time.process_time()
        model = LSTM(
            h=HORIZON,
            input_size=CONTEXT,
            encoder_n_layers=1,
            encoder_hidden_size=UNITS,
            encoder_dropout=0.0,
            decoder_layers=1,
            recurrent=False,
            loss=MAE(),
            max_steps=updates,
            batch_size=1,
            windows_batch_size=BATCH,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            num_sanity_val_steps=0,
        )
        NeuralForecast(models=[model], freq=1).fit(table[table["unique_id"] == name])
    result = {
        "seconds": time.perf_counter() - begin,
        "cpu_seconds": time.process_time() - used,
        "versions": {name: version(name) for name in ("neuralforecast", "torch")},
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
