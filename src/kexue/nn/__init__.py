"""What models of several articles are built from: attention, straight-through, checks, randomness."""
