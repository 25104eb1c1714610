"""The skills of the lab's own world, by what they are about."""
