"""A benchmark: several tasks, several seeds each, with learning curves and tables."""
