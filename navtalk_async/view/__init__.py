"""Find, and look."""
