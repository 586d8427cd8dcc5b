"""Trainers that move a child's time: transformers, Lightning and accelerate. Each module needs its library installed.

The model that a trainer is given is the child, so its checkpoints hold the mask: resuming and loading the best model
work as for any model.
"""
