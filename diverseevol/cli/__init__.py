"""The command line: composes a configuration, binds it to plain typed objects, and gets out of the way.

This package is the only importer of Hydra.
"""

from diverseevol.cli.app import VERBS, NoteSweep, main

__all__ = ["VERBS", "NoteSweep", "main"]
