"""utilsforecast has invalid escapes in docstrings: a warning, here an error, where it is not compiled yet."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import utilsforecast.evaluation
    import utilsforecast.losses  # noqa: F401
