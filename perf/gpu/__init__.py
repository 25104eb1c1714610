"""Models of real sizes on a GPU beside the plain Hugging Face way: `make bench-gpu`."""
