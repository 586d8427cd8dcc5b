"""The functions that Snakemake calls: stages, jobs and their marks, the machine, a study's size and how far it is."""
