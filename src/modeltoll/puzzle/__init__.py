"""Proof-of-work puzzles, their solvers, and the sealing of answers."""
