"""All that is shown of results."""
