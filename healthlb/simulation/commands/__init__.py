"""`healthlb simulate`: the production core on virtual time, on the command line.

One command, one file; what it does lives in `healthlb.simulation`.
"""
