"""`python -m diverseevol VERB …`, and what `torchrun -m diverseevol` starts."""

from diverseevol.cli import main

main()
