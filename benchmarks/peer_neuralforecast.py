"""neuralforecast's LSTM: a worker of `bench_step.py`, run by a Python that has neuralforecast.

Its training step is as lean as possible: no validation, logger, checkpoint, progress bar, clipping or schedule of
the learning rate, and a decoder of one linear layer, as in dist_lstm. All other settings are its defaults: Adam,
robust scaling of each window, and 32 series per step, from which it samples as many windows as the framework's
batch. Its training pauses between turns, so start-up is not timed.
"""

# pyright: reportMissingImports=false
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.turns import Jobs

WARM_UP = 3


def main() -> None:
    """Read the table with the first job, which holds the number of threads; then train in turns."""
    import pandas as pd
    import pytorch_lightning as lightning
    import torch
    from neuralforecast import NeuralForecast
    from neuralforecast.losses.pytorch import MQLoss
    from neuralforecast.models import LSTM

    jobs = Jobs()
    job = jobs.take()
    assert job is not None
    torch.set_num_threads(job["threads"])
    batch, units = job["size"]["batch"], job["size"]["units"]
    if len(set(units)) > 1:
        raise ValueError("neuralforecast needs the same number of units in all layers")

    class TurnCallback(lightning.Callback):
        """Times the steps of a turn, answers with the times and waits for the next turn."""

        until, begin = WARM_UP, (0.0, 0.0)

        def on_train_batch_end(self, trainer: Any, *_: Any, **__: Any) -> None:
            if trainer.global_step < self.until:
                return
            seconds, used = time.perf_counter() - self.begin[0], time.process_time() - self.begin[1]
            if self.until == WARM_UP:
                jobs.answer({"versions": {name: version(name) for name in ("neuralforecast", "torch")}})
            else:
                rate = round(self.steps * batch / seconds, 1)
                jobs.answer({"windows_per_second": rate, "cpu_seconds": round(used / self.steps, 6)})
            turn = jobs.take()
            trainer.should_stop = turn is None
            self.steps = turn["steps"] if turn else 0
            self.until, self.begin = self.until + self.steps, (time.perf_counter(), time.process_time())

    warnings.simplefilter("ignore")
    model = LSTM(
        h=job["horizon"],
        input_size=job["size"]["context"],
        encoder_n_layers=len(units),
        encoder_hidden_size=units[0],
        encoder_dropout=job["dropout"],
        decoder_layers=1,
        recurrent=False,
        loss=MQLoss(level=job["levels"]),
        max_steps=1_000_000,
        batch_size=job["series"],
        windows_batch_size=batch,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        callbacks=[TurnCallback()],
    )
    table = pd.read_parquet(Path(job["folder"]) / "series.parquet")
    NeuralForecast(models=[model], freq=1).fit(table)


if __name__ == "__main__":
    main()
