"""Self-evolved diverse data sampling for instruction tuning (arXiv 2311.08182), as an experiment framework.

Start reading at `diverseevol/evolution/loop.py`.
"""

__version__ = "0.2.0.dev0"
