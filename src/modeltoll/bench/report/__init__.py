"""Reports of results: the paper's tables beside ours, figures with their numbers, failed checks."""
