"""Benchmarks: plain scripts, one harness; see `python -m benchmarks --help`."""
