"""What a scenario is, as values: who serves, who calls, what goes wrong, and the laws of chance."""
