"""What both faces' health clients share: what they are given, and what they hear."""
