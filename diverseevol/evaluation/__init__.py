"""Benchmarks, judges, and what their judgements say."""
