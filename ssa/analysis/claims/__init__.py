"""The paper's claims, each tested by its rule."""
