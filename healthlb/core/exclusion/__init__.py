"""Who is held out although healthy, and why: outliers, flap damping, panic mode, subsets, slow start."""
