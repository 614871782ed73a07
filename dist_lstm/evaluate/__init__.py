"""How good forecasts are: metrics, backtests, scores against actuals."""
