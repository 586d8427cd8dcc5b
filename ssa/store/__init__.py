"""Where results lie, and how they are written."""
