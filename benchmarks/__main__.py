"""`python -m benchmarks [--size small|full]`: every benchmark, one after the other."""

from benchmarks import kcenter

kcenter.main()
