"""What a scenario expects of its runs: expressions, the functions they may call, and closed forms of theory."""
