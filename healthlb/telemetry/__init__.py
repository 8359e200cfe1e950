"""What is made of the core's facts: logs here, metrics in modules of their own."""
