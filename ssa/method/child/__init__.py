"""The parts of a child: its mask in one flat tensor, the layers that compute their weights from it, its states."""
