"""Lightning modules: one for fine-tuning, one for probing, and the data they read."""
