"""`python -m healthlb.cli` is the `healthlb` command."""

from healthlb.cli import main

main()
