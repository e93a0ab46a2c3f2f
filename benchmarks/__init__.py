"""Benchmarks: one question a file, answered by this library and by the usual alternatives."""
