"""Ranks and threads: several processes as one, threads side by side, arrays all ranks fill, work in a child process."""
