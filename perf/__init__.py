"""Each part beside the plain alternative, interleaved in one process, as ratios; see `make bench`."""
