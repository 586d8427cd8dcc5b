"""The method, usable alone: masks, pruning, and the laws that anneal a subnetwork."""
