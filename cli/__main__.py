"""`python -m bacmac.cli` is the `bacmac` command."""

from bacmac.cli.main import main

main()
