"""Names that a study may ask for. Imports nothing: reading a study or its records must not import PyTorch."""

# What the library can prune by; named here for those that must not import it.
CRITERIA = ("random", "anti-random", "magnitude", "taylor", "synflow")
STRUCTURES = ("connections", "neurons")
ALLOCATIONS = ("layerwise", "global", "erk", "lamp")
# And what it can score ensembles by: how members are combined, the mean of their probabilities (primary) or of their
# logits (the authors' code); in what; the named sets of corrupted test images of each data set, the widest last.
CONVENTIONS = ("probabilities", "logits")
MEASURES = ("accuracy", "nll", "ece", "brier")
CORRUPTION_SETS = {
    **dict.fromkeys(("cifar10", "cifar100"), ("benchmark-15", "uncertainty-baselines-17", "all-19")),
    "digits": ("digits-6",),
}
# What it can train on, and how a training step is compiled.
DEVICES = ("auto", "cpu", "cuda")
COMPILE = ("auto", "off", "default", "reduce-overhead")
