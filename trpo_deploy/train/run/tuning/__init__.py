"""A search for settings with Optuna: trials of several seeds, on processes and machines."""
