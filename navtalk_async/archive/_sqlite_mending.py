"""An archive's tables and indexes after damage: rebuilt from the rows that can be found by their keys."""

import sqlite3
from contextlib import suppress

from navtalk_async.archive._schema import INDEXES, table_of
from navtalk_async.archive._sqlite_file import in_sqlite

__all__ = ["rebuild"]

KEYS = {"messages": ("session_id", "id"), "sessions": ("id",)}
"""The columns of each table by which its rows are found."""


def rebuild(db: sqlite3.Connection) -> None:
    """Rebuild all indexes; and a table of which rows are doubled, since its index hid them, or cannot be
    found any more, since their keys are no text: those are removed. Then pages, where they are not in order.
    """
    db.create_function("is_text", 1, _is_text, deterministic=True)
    try:
        db.execute("REINDEX")
        are_alone = True
    except sqlite3.IntegrityError:
        are_alone = False
    for table, keys in KEYS.items():
        found = " AND ".join(f"is_text(CAST({key} AS BLOB))" for key in keys)
        if are_alone and not db.execute(f"SELECT 1 FROM {table} WHERE NOT ({found}) LIMIT 1").fetchall():
            continue
        indexes = "".join(
            f"CREATE INDEX {name} ON {of};" for name, of in INDEXES.items() if of.startswith(f"{table} ")
        )
        # The row that was written last is the right one.
        db.executescript(
            f"""BEGIN; ALTER TABLE {table} RENAME TO damaged;
            {in_sqlite(table_of(table))}
            INSERT OR REPLACE INTO {table} SELECT * FROM damaged NOT INDEXED WHERE {found} ORDER BY rowid;
            DROP TABLE damaged; {in_sqlite(indexes)} COMMIT;"""
        )
    db.execute("DELETE FROM sync_sessions WHERE NOT is_text(CAST(session_id AS BLOB))")
    db.commit()
    if db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        # What remains after that is told where it is read.
        with suppress(sqlite3.DatabaseError):
            db.execute("VACUUM")


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
