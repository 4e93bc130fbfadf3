"""One training run: callbacks, logs, plots, its card; the benchmark of many runs."""
