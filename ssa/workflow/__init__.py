"""The functions that Snakemake calls: stages, jobs, the size of a study, and how far it is."""
