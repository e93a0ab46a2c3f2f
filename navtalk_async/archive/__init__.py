"""How it is kept: one schema for every API, in a database that can be killed at any instant."""

from navtalk_async.archive.archive import Archive, is_url, redacted

__all__ = ["Archive", "is_url", "redacted"]
