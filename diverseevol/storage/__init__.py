"""Files that are complete or absent: written to a temporary name and renamed, sealed, cached, read with limits."""
