"""What is generated in the README and in pages of the documentation."""
