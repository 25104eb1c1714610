"""Arrays in, numbers out: diversity, distances, projections, and the exact searches that samplers share."""
