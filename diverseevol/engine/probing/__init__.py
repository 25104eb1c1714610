"""What a model says about every row: embeddings, token statistics, disagreement of a committee."""
