"""Evaluation of forecasts: backtests, validation scores, scores against actual values."""
