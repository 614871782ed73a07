"""Prepared tables, as the tests of scores use them."""

from tests.evaluate.conftest import prepare_frame  # noqa: F401 (a fixture)
