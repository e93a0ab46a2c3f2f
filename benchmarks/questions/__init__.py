"""The questions: one a file, with its bars."""
