"""The run folder and the round folders in it, the configuration that they keep, and the loggers."""
