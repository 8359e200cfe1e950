"""`healthlb simulate`: the production core on virtual time, on the command line.

The one rule: one command, one file; what it does lives in `healthlb.simulation`.
"""
