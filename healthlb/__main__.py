"""`python -m healthlb` is the `healthlb` command."""

from healthlb.cli import main

main()
