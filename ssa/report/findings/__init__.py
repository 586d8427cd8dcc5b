"""Questions beyond the paper's claims, one file for each: its table, its figure, and what is said of both."""
