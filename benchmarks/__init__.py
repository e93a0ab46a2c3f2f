"""Benchmarks: one question a file, each beside the plain way of doing the same."""
