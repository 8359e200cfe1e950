"""Everything at once for minutes: hostile peers, random faults and lists that change, under calls of both faces."""
