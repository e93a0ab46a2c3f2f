"""List one long span from many places at once."""
