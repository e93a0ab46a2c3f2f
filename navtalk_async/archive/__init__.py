"""How it is kept: one schema for every API, in a database that can be killed at any instant."""
