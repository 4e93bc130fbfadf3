"""What the benchmarks share: both algorithms, servers under load, and result files."""
