"""Judges: what a judge is, each kind of judge, and what asking one takes."""
