"""Statistics of the tables of results, a diagnosis of a gain, and the findings' tables."""
