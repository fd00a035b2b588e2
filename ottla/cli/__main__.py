"""`python -m ottla.cli`: the same as the `ottla` command."""

from ottla.cli.main import main

main()
