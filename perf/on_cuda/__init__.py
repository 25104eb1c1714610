"""The parts that have a CUDA device to gain from, on one: `python -m perf --device cuda`."""
