"""One call: its attempts, what follows a failure, budgets, caps, and waiting for a subchannel."""
