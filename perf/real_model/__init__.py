"""A real model on real rows beside the plain Hugging Face way, made fair: `python -m perf.real_model`.

Both sides get the same rows in the same batches, grouped by length and padded per batch, the same optimizer and the
same precision. Each part says whether the results agree, because a quicker way to another result is no comparison.
"""
