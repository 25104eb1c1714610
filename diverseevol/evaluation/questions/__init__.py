"""Benchmarks: where the questions come from, and the answers to them on disk."""
