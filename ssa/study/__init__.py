"""A study: from one YAML file to its runs."""
