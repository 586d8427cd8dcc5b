"""What a child is made of: its mask in one flat tensor, the layers that compute their weights from it, its states."""
