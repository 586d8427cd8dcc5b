"""The functions that Snakemake calls: stages, jobs and their marks, the machine, the size of a study, and how far it is."""
