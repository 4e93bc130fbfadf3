"""One training run: callbacks, logs, plots, its card; benchmark and tuning, of many runs."""
