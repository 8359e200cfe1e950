"""Virtual time, queues on it, and histograms."""
