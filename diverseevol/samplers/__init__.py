"""Samplers: which rows join the pool next. One file each; see `base` for the contract."""
