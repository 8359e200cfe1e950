"""Sweeps: one scenario under many settings, on one core or on a cluster, interrupted and resumed at will.

What a cell comes to depends on the cell alone, so who ran it, when, and in which order, shows nowhere.
"""
