"""The frequency of a table, from a sample of its series."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dist_lstm.config.frequency import Frequency
from dist_lstm.config.infer_frequency import check_frequency, infer_frequency
from dist_lstm.data.calendar import local_clock, zone_of

#: Series in the sample.
_SAMPLE = 50


def sample_frequency(table: pa.Table, given: Frequency | None = None, ds_format: str | None = None) -> Frequency:
    """The frequency of a sample of the series of a table, or the given one if they do not contradict it.

    The sample has the longest series, and others that are chosen by the hash of their names, so that it does not
    depend on the order of the rows.

    Args:
        table: All rows of some series, with columns `unique_id` and `ds`.
        given: The user's setting; None without one.
        ds_format: `data.ds_format`.

    Returns:
        The frequency.

    Raises:
        UserError: If no series is regular anywhere, or all have another frequency than the given one.
    """
    names = _sample_names(table["unique_id"])
    some = table.filter(pc.is_in(table["unique_id"], names))
    ids, ds = some["unique_id"].to_numpy(), some["ds"].to_numpy()
    zone = zone_of(table.schema.field("ds").type)
    # Days and months begin at local midnight; shorter steps are the same in any time zone.
    ds = local_clock(ds, zone) if zone else ds
    series = [np.sort(ds[ids == name]) for name in names.to_pylist()]
    if given is None:
        return infer_frequency(series, ds_format)
    check_frequency(given, series, ds_format)
    return given


def _sample_names(ids: pa.ChunkedArray) -> pa.Array:
    """Names of the longest series, and of as many others."""
    counts = pc.value_counts(ids)
    names, rows = counts.field("values").to_pandas(), counts.field("counts").to_pandas()
    hashes = pd.util.hash_array(names.to_numpy(object))
    by_length = np.lexsort((hashes, -rows.to_numpy()))
    longest, others = np.split(by_length, [_SAMPLE // 2])
    chosen = np.concatenate([longest, others[np.argsort(hashes[others])][: _SAMPLE - len(longest)]])
    return pa.array(names.to_numpy(object)[chosen], ids.type)
