"""Training: a matrix and a network go in, the trained network comes out."""
