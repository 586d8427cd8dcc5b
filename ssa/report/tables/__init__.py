"""The tables: of a study, of ensembles, beside published numbers."""
