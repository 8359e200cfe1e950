"""What both faces share of a call: settings, policies, attempts, replay, and what a failure proves."""
