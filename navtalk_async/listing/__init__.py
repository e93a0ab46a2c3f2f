"""List one long span of time from many places at once."""
