"""Benchmarks: one question a file, and beside our answer the one that people get with what they use today."""
