"""The whole job, every session with its messages, as people do it: one way a file."""
