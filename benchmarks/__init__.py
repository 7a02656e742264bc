"""Benchmarks: `python -m benchmarks.<name>` at the top of the repository."""
