"""One module per command of the command line; each takes a Configuration and knows nothing of Hydra."""
