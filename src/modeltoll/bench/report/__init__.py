"""Results made into pages: the paper's tables next to ours, figures with their numbers, what does not hold."""
