"""Numbers from raw columns, also from text.

Axes: R rows.
"""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dist_lstm.data.raw_rows import is_text

#: Texts for a missing value, in lower case.
_MISSING = pa.array(["", "nan", "na", "n/a", "#n/a", "null"])
#: Whole numbers of so many digits need not be held by float64.
_LONG = r"^[+-]?\d{16,}$"


def parse_numbers(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Values, `[R]`, float64, NaN if missing; and True where there is something else than a number, `[R]`."""
    kind = column.type
    numeric = (pa.types.is_floating, pa.types.is_integer, pa.types.is_decimal, pa.types.is_boolean)
    if any(test(kind) for test in numeric):
        values = pc.cast(column, pa.float64(), safe=False).to_numpy()
        return values, np.zeros(len(values), bool)
    if not is_text(kind):
        return np.full(len(column), np.nan), column.is_valid().to_numpy()
    text = pc.utf8_trim_whitespace(pc.cast(column, pa.string()))
    text = pc.if_else(pc.is_in(pc.utf8_lower(text), _MISSING), None, text)
    try:
        # Exact to the last digit, as pandas is only from 3.1 on.
        values = pc.cast(text, pa.float64()).to_numpy()
    except pa.ArrowInvalid:
        values = pd.to_numeric(text.to_pandas(), errors="coerce").to_numpy(np.float64, na_value=np.nan)
        return values, np.isnan(values) & text.is_valid().to_numpy()
    return values, np.zeros(len(values), bool)


def count_rounded(column: pa.ChunkedArray, values: pa.Array) -> int:
    """How many numbers of a column differ from their float64 values; numbers with a decimal point are not counted.

    Args:
        column: Raw numbers, `[R]`.
        values: The same as float64, `[R]`; null is missing.

    Returns:
        The count.
    """
    if is_text(column.type) or pa.types.is_decimal(column.type):
        text = pc.utf8_trim_whitespace(pc.cast(column, pa.string()))
        long = pc.fill_null(pc.match_substring_regex(text, _LONG), False)
        pairs = zip(text.filter(long).to_pylist(), values.filter(long.combine_chunks()).to_pylist(), strict=True)
        return sum(int(text) != value for text, value in pairs)
    if not pa.types.is_integer(column.type):
        return 0
    whole = column.drop_null().to_numpy()
    result = whole.astype(np.float64)
    limits = np.iinfo(whole.dtype)
    # The largest whole numbers become 2^63 or 2^64, which would not fit back.
    inside = result < float(limits.max)
    back = np.where(inside, result, 0).astype(whole.dtype)
    return int(np.count_nonzero(~inside | (back != whole))) if whole.dtype.itemsize == 8 else 0
