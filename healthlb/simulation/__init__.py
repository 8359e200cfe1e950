"""Simulations of flapping, hanging, lying and overloaded backends: the production core on virtual time."""
