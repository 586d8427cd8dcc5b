"""The figures: of a study, of ensembles, of findings."""
