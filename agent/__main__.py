"""`python -m agent` is `graphwright`; `torchrun -m agent train` needs a module to run."""

from agent.cli import main

main()
