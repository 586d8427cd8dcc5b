"""The parts of the README and of pages of the documentation that are generated."""
