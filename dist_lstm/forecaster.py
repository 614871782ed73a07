"""Fit, predict and cross-validate on DataFrames.

    from dist_lstm import Forecaster

    forecaster = Forecaster.fit(df, horizon=24)     # columns unique_id, ds, y
    forecaster.predict()                            # the next 24 steps of every series
    forecaster.cross_validation()                   # rolling cutoffs, with a model that never saw them
    forecaster.save("models/load")                  # later: Forecaster.load("models/load").predict(newer)

The calls do the same as `dist-lstm run` does with a file, in a run directory that is temporary until it is saved.
Several threads and processes may use the same directory. Tables have the columns of Nixtla's libraries.
"""

import io
import shutil
import tarfile
import tempfile
import warnings
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from dist_lstm import run as job
from dist_lstm.config.frequency import frequency_name
from dist_lstm.config.load import override, parse_config
from dist_lstm.credentials import refuse_keys
from dist_lstm.errors import UserError
from dist_lstm.layout import ForecastLayout, RunLayout, ShardLayout, part_files
from dist_lstm.run_directory import open_run, start_run
from dist_lstm.storage import local_path, publish

#: Placeholder for the path of a table in memory.
_FRAME = "memory://DataFrame"


class Forecaster:
    """A trained model and the series it was trained on; created by `fit` or `load`.

    A pickle or a copy contains its run directory: the model, the series, the scores.

    Args:
        folder: The run directory.
        verbose: Whether progress is printed.
    """

    def __init__(self, folder: Path, verbose: bool = False) -> None:
        self._folder = folder
        self._verbose = verbose

    @classmethod
    def fit(
        cls,
        df: Any,
        horizon: int,
        freq: str | int | pd.tseries.offsets.BaseOffset | timedelta | None = None,
        season_length: int | None = None,
        overrides: Mapping[str, Any] | None = None,
        *,
        verbose: bool = False,
    ) -> Self:
        """Train a model on all series of a table together.

        The last steps of each series are held out to choose the number of training steps and to score a first
        model; the model that predicts is then trained on whole series.

        Args:
            df: One row per series and step: `unique_id`, `ds` (time stamp or whole number), `y` (NaN is missing);
                a DataFrame of pandas or polars, or an Arrow table.
            horizon: Steps to forecast.
            freq: Pandas alias such as `h`, `D` or `MS`, an offset, a `Timedelta`, or 1 for whole numbers; None to
                infer it from the table.
            season_length: Steps per season; None for the usual season of the frequency.
            overrides: Other settings by dotted key, such as `{"train.max_steps": 500}`.
            verbose: Whether progress is printed.

        Returns:
            The trained forecaster.

        Raises:
            UserError: If a setting or the table can't be used, or training diverges.
        """
        task = {"horizon": horizon, "freq": frequency_name(freq), "season_length": season_length}
        config = parse_config({"task": task, "data": {"path": _FRAME}}, "Forecaster.fit")
        config = override(config, overrides or {})
        forecaster = cls(_temporary_run(), verbose)
        forecaster._delete_at_end()
        frame = _to_pandas(df)
        with _in_python(), start_run(config, forecaster._folder, forecaster._console, frame) as run:
            _warn_of_rejected(run.shards.files.rejected, run.manifest.series, "forecaster.rejected lists them")
            job.train(run)
            job.backtest(run)
        return forecaster

    def _delete_at_end(self) -> None:
        """Delete the temporary folder of the run directory together with this object."""
        weakref.finalize(self, shutil.rmtree, self._folder.parent, ignore_errors=True)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the run directory."""
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as archive:
            # Names that begin with a dot are working files of a process.
            archive.add(self._folder, ".", filter=lambda one: None if Path(one.name).name.startswith(".") else one)
        return self._unpack, (content.getvalue(), self._verbose)

    @classmethod
    def _unpack(cls, content: bytes, verbose: bool) -> Self:
        forecaster = cls(_temporary_run(), verbose)
        forecaster._delete_at_end()
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.extractall(forecaster._folder, filter="data")
        return forecaster

    @property
    def _console(self) -> Console:
        return Console(highlight=False, markup=False, emoji=False, file=None if self._verbose else io.StringIO())

    def predict(self, df: Any = None) -> pd.DataFrame:
        """Forecast the steps after the end of every series.

        Args:
            df: Newer values of the same series, or other series, with the columns of the table passed to `fit`;
                None forecasts that table.

        Returns:
            `unique_id`, `ds`, `LSTM` (the median), and the bounds of the intervals, `LSTM-lo-80`, `LSTM-hi-80`,
            ...; one row per series and step, in target units. NaN for a series without an observed value in its
            last context. Series of `df` that can't be used are left out, with a warning.

        Raises:
            UserError: If the table can't be used.
        """
        frame = None if df is None else _to_pandas(df)
        with (
            _in_python(),
            tempfile.TemporaryDirectory(prefix="dist-lstm-") as scratch,
            open_run(self._folder, self._console, read_only=True) as run,
        ):
            done = df is None and run.is_done("forecast")
            folder = job.forecast(run, frame, None if done else Path(scratch) / "forecasts")
            table = _read_parts(folder)
            if df is not None:
                rejected = ForecastLayout(folder).rejected
                _warn_of_rejected(rejected, table["unique_id"].nunique(), "they are not forecast")
            return table

    def cross_validation(self, n_windows: int | None = None, step_size: int | None = None) -> pd.DataFrame:
        """Forecast from rolling cutoffs in the held-out last steps, with a model that saw none of them.

        Args:
            n_windows: Number of cutoffs, the last one horizon before the last date; None for `backtest.windows`.
            step_size: Steps between two cutoffs; None for `backtest.stride`.

        Returns:
            `unique_id`, `ds`, `cutoff`, `y`, the columns of `predict`, and one per name in `backtest.baselines`.

        Raises:
            UserError: If a number is not a whole number of at least 1, or the cutoffs need more steps than were
                held out from training.
        """
        with (
            _in_python({"backtest.windows": "n_windows", "backtest.stride": "step_size"}),
            tempfile.TemporaryDirectory(prefix="dist-lstm-") as scratch,
            open_run(self._folder, self._console, read_only=True) as run,
        ):
            given = {"backtest.windows": n_windows, "backtest.stride": step_size}
            settings = override(run.config, {key: one for key, one in given.items() if one is not None}).backtest
            task = run.task
            needed = task.horizon + (settings.windows - 1) * settings.stride
            if needed > task.test:
                raise UserError(
                    "cross_validation",
                    (
                        f"{settings.windows} windows, {settings.stride} steps apart, need {needed} steps held out "
                        f"from training, there are {task.test}"
                    ),
                    f"fit with overrides={{'split.test': {needed}}}",
                )
            folder = Path(scratch) / "backtest"
            job.roll(run, settings, folder)
            return _read_parts(folder)

    @property
    def scores(self) -> pd.DataFrame:
        """Scores of the backtest, one row per series and model; empty without a test range."""
        path = RunLayout(self._folder).scores
        return pd.read_parquet(path) if path.exists() else pd.DataFrame()

    @property
    def rejected(self) -> pd.DataFrame:
        """Series of the table passed to `fit` that can't be used: `unique_id`, `steps`, and the `reason`."""
        return pd.read_parquet(ShardLayout(RunLayout(self._folder).shards).rejected)

    def save(self, folder: str | Path) -> None:
        """Copy the run directory, which `dist-lstm forecast` and `dist-lstm report` can use as well.

        Args:
            folder: The folder to write; must not exist.

        Raises:
            UserError: If it exists, can't be written, or is a URI.
        """
        folder = _directory(folder)
        if folder.exists():
            raise UserError(folder, "exists already", "choose another folder or delete it")
        with publish(folder) as temporary:
            # Names that begin with a dot are working files of a process.
            shutil.copytree(self._folder, temporary, ignore=shutil.ignore_patterns(".*"))

    @classmethod
    def load(cls, folder: str | Path, *, verbose: bool = False) -> Self:
        """Open a run directory that `save` or `dist-lstm run` wrote.

        Args:
            folder: The directory.
            verbose: Whether progress is printed.

        Returns:
            The forecaster; it keeps using the directory.

        Raises:
            UserError: If it is not the directory of a trained run, or is a URI.
        """
        forecaster = cls(_directory(folder), verbose)
        with open_run(forecaster._folder, forecaster._console, read_only=True) as run:
            if not run.is_done("train"):
                raise UserError(folder, "there is no model", "train one first")
        return forecaster


@contextmanager
def _in_python(arguments: Mapping[str, str] = MappingProxyType({})) -> Iterator[None]:
    """Errors of a block in the words of this module instead of the command line's.

    Args:
        arguments: Names of arguments by the settings that they stand for.
    """
    try:
        yield
    except UserError as error:
        words = {f"{_FRAME}: ": "", _FRAME: "the DataFrame", "another --out": "another folder", **arguments}
        for name, instead in words.items():
            error = error.with_name(name, instead)
        raise error from error.__cause__


def _temporary_run() -> Path:
    """A run directory that does not exist yet, in a temporary folder of its own."""
    return Path(tempfile.mkdtemp(prefix="dist-lstm-")) / "run"


def _directory(folder: str | Path) -> Path:
    """The path of a directory."""
    refuse_keys("folder", str(folder))
    path = local_path(folder)
    if path is None:
        raise UserError("folder", f"expected a directory, got the URI {folder}", "copy it from or to a directory")
    return path


def _to_pandas(table: Any) -> pd.DataFrame:
    """A table of pandas as it is; one of polars, or any that offers Arrow's interface, with its own types."""
    if isinstance(table, pd.DataFrame):
        return table
    if hasattr(table, "__arrow_c_stream__") and hasattr(table, "columns"):
        return pa.table(table).to_pandas(types_mapper=pd.ArrowDtype)
    remedy = "call collect() on it" if hasattr(table, "collect") else "give a DataFrame of pandas or polars"
    raise UserError("df", f"expected a DataFrame or an Arrow table, got {type(table).__name__}", remedy)


def _warn_of_rejected(path: Path, used: int, remark: str) -> None:
    """Warn of series that can't be used: how many, why, and which."""
    rejected = pd.read_parquet(path) if path.exists() else pd.DataFrame()
    if rejected.empty:
        return
    causes = ", ".join(f"{reason} ({count})" for reason, count in rejected["reason"].value_counts().items())
    names = ", ".join(map(repr, rejected["unique_id"].head(3))) + (", ..." if len(rejected) > 3 else "")
    text = f"{len(rejected):,} of {used + len(rejected):,} series can't be used: {causes}: {names}; {remark}"
    warnings.warn(text, stacklevel=3)


def _read_parts(folder: Path) -> pd.DataFrame:
    """Read the part files of a folder as one table."""
    parts = [pq.read_table(part).to_pandas() for part in part_files(folder)]
    return pd.concat(parts, ignore_index=True)
