"""Measurements that take too long for a notebook: one command each, one file in benchmarks/results each."""
