"""Files that are complete or absent: written under a temporary name and renamed, sealed, cached, and read with limits."""
