"""Reports of simulations: one HTML file that needs nothing else, from the records of runs.

Whatever is drawn is in the records. A report computes sums, shares and percentiles, and decides nothing.
"""

from __future__ import annotations

from healthlb.simulation.report.documents import render_comparison, render_maps, render_outcome, render_run
from healthlb.simulation.report.heatmap import HeatMap

__all__ = ["HeatMap", "render_comparison", "render_maps", "render_outcome", "render_run"]
