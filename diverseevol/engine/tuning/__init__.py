"""How the foundation model becomes the round's: fine-tuning on the pool."""
