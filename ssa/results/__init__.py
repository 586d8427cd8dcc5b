"""From records to tables of children and ensembles, and the folders that keep them."""
