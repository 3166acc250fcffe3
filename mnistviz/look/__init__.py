"""What happened inside: one recorded forward pass, and the arithmetic behind every number in it."""
