"""The tables of an archive in a PostgreSQL schema."""

from navtalk_async.archive._sqlite_schema import COUNT_AGAIN, LIST_AGAIN, UNDIGESTED

__all__ = ["NAMES", "SCHEMA", "SCHEMA_VERSION", "UPGRADES"]

SCHEMA_VERSION = 5
"""That of the same tables in SQLite."""

# What is compared and ordered is so by its bytes, as in SQLite, whatever the database's own order is.
WORD = 'TEXT COLLATE "C"'

WAITING = f"""
CREATE TABLE sync_waiting (
    project {WORD} NOT NULL, session_id {WORD} NOT NULL, start_time {WORD}, gone_at {WORD},
    PRIMARY KEY (project, session_id)
);
"""

SCHEMA = f"""
CREATE TABLE sync_schema (version INTEGER NOT NULL);
CREATE TABLE sync_projects (
    project {WORD} PRIMARY KEY, api TEXT NOT NULL, server TEXT, scope TEXT NOT NULL,
    watermark {WORD}, places TEXT, round TEXT, last_run TEXT,
    rounds BIGINT NOT NULL DEFAULT 0, changes BIGINT NOT NULL DEFAULT 0,
    refuted BOOLEAN NOT NULL DEFAULT FALSE
);
CREATE TABLE sync_sessions (
    project {WORD} NOT NULL, session_id {WORD} NOT NULL,
    state TEXT NOT NULL, content_hash TEXT, reason TEXT, attempts BIGINT NOT NULL DEFAULT 0,
    watched BOOLEAN NOT NULL DEFAULT FALSE, settles_at {WORD}, read_at {WORD},
    messages BIGINT, digest TEXT, row_digest TEXT, next TEXT, first BIGINT,
    PRIMARY KEY (project, session_id)
);
CREATE INDEX sync_unfinished ON sync_sessions (project, state) WHERE state <> 'kept';
CREATE INDEX sync_watched ON sync_sessions (project, read_at) WHERE watched;
CREATE INDEX sync_unread ON sync_sessions (project) WHERE next IS NOT NULL;
{UNDIGESTED}
CREATE TABLE sync_seen (
    project {WORD} NOT NULL, session_id {WORD} NOT NULL, PRIMARY KEY (project, session_id)
);
{WAITING}CREATE TABLE sync_gone (
    project {WORD} NOT NULL, id {WORD} NOT NULL, session_id {WORD} NOT NULL, position BIGINT NOT NULL,
    role TEXT, type TEXT, content TEXT, created_at {WORD}, raw TEXT NOT NULL, gone_at {WORD} NOT NULL,
    PRIMARY KEY (project, session_id, id)
);
CREATE TABLE sessions (
    project {WORD} NOT NULL, id {WORD} NOT NULL, api TEXT NOT NULL,
    status TEXT, start_time {WORD}, end_time {WORD}, title TEXT, video_url TEXT,
    raw TEXT NOT NULL, content_hash TEXT NOT NULL,
    first_seen_at {WORD} NOT NULL, last_changed_at {WORD} NOT NULL, deleted_at {WORD},
    PRIMARY KEY (project, id)
);
CREATE INDEX sessions_in_order ON sessions (project, start_time NULLS FIRST, id);
CREATE TABLE messages (
    project {WORD} NOT NULL, id {WORD} NOT NULL, session_id {WORD} NOT NULL, position BIGINT NOT NULL,
    role TEXT, type TEXT, content TEXT, created_at {WORD}, raw TEXT NOT NULL,
    PRIMARY KEY (project, session_id, id)
);
INSERT INTO sync_schema VALUES ({SCHEMA_VERSION});
"""
"""See `sqlite_schema` for what the columns of the progress tables tell."""

NAMES = (
    *("sessions", "sessions_in_order", "messages"),
    *("sync_schema", "sync_projects", "sync_sessions", "sync_seen", "sync_waiting", "sync_gone"),
    *("sync_unfinished", "sync_watched", "sync_unread", "sync_undigested"),
)
"""What `SCHEMA` makes, and must not find."""

UPGRADES = {
    3: """
    DROP INDEX messages_in_order;
    ALTER TABLE messages DROP CONSTRAINT messages_pkey, ADD PRIMARY KEY (project, session_id, id);
    ALTER TABLE sync_gone DROP CONSTRAINT sync_gone_pkey, ADD PRIMARY KEY (project, session_id, id);
    UPDATE sync_schema SET version = 4;
    """,
    4: f"""
    ALTER TABLE sync_projects ADD COLUMN server TEXT;
    ALTER TABLE sync_sessions ADD COLUMN row_digest TEXT;
    {UNDIGESTED}
    {COUNT_AGAIN}
{LIST_AGAIN}
    {WAITING}
    UPDATE sync_schema SET version = 5;
    """,
}
"""What makes a version into the next one."""
