"""What is asked: one question a file, its bars beside it."""
