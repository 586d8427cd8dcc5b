"""Training and scoring of networks."""
