"""How fast the engine is: ``make bench``."""
