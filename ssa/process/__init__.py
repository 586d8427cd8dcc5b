"""One process among others: its GPU, its locks, its deadline, its progress, and where it ran."""
