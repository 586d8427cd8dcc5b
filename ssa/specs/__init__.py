"""What a run is: specifications and their ids, and the reading of settings."""
