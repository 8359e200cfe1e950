"""What both faces' health clients share: their arguments, and the answers that they get."""
