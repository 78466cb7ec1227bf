"""What models of several articles are built from: attention, beams, padding, checks, randomness."""
