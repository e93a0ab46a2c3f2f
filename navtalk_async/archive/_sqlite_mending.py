"""An archive's tables and indexes after damage: rebuilt from the rows that can be found by their keys."""

import sqlite3
from contextlib import suppress

from navtalk_async.archive._sqlite_schema import IN_ORDER, MESSAGES, SESSIONS

__all__ = ["rebuild"]

TABLES = {"messages": (MESSAGES, "", ("id", "session_id")), "sessions": (SESSIONS, IN_ORDER, ("id",))}
"""How each is made, its index, and the columns by which its rows are found."""


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
    for table, (made, index, keys) in TABLES.items():
        found = " AND ".join(f"is_text(CAST({key} AS BLOB))" for key in keys)
        if are_alone and not db.execute(f"SELECT 1 FROM {table} WHERE NOT ({found}) LIMIT 1").fetchall():
            continue
        # The row that was written last is the right one.
        db.executescript(
            f"""BEGIN; ALTER TABLE {table} RENAME TO damaged;
            {made}
            INSERT OR REPLACE INTO {table} SELECT * FROM damaged NOT INDEXED WHERE {found} ORDER BY rowid;
            DROP TABLE damaged; {index} COMMIT;"""
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
