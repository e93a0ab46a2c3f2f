"""Damage to the files of an export."""

import sqlite3
from contextlib import closing


def damage(path, offset=None):
    """Flip a bit of a file, by default in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if offset is None else offset] ^= 1
    path.write_bytes(bytes(data))


def change(path, statement):
    """Run a statement on an archive, and leave nothing of it beside the file."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement)
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
