"""What the tables of results say: statistics, a diagnosis of a gain, and the findings' tables."""
