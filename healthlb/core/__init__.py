"""The pure core: it decides, and does no I/O, reads no clock and knows no transport."""
