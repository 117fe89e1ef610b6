"""Texts made at any length, for benchmarks that need no data."""
