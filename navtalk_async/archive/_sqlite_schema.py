"""The tables of an archive, and what makes those of an earlier version into them."""

__all__ = ["APPLICATION_ID", "IN_ORDER", "MESSAGES", "SCHEMA", "SCHEMA_VERSION", "SESSIONS", "UPGRADES"]

APPLICATION_ID = 0x6E617674  # "navt": how `file` and we tell an archive from any other SQLite file
SCHEMA_VERSION = 5

# Not every API says that the id of a message is one in more than its session.
GONE = """
CREATE TABLE sync_gone (
    project TEXT NOT NULL, id TEXT NOT NULL, session_id TEXT NOT NULL, position INTEGER NOT NULL,
    role, type, content TEXT, created_at TEXT, raw TEXT NOT NULL, gone_at TEXT NOT NULL,
    PRIMARY KEY (project, session_id, id)
);
"""

UNDIGESTED = "CREATE INDEX sync_undigested ON sync_sessions (project) WHERE row_digest IS NULL;"

WAITING = """
CREATE TABLE sync_waiting (
    project TEXT NOT NULL, session_id TEXT NOT NULL, start_time TEXT, gone_at TEXT,
    PRIMARY KEY (project, session_id)
) WITHOUT ROWID;
"""

MESSAGES = """
CREATE TABLE messages (
    project TEXT NOT NULL, id TEXT NOT NULL, session_id TEXT NOT NULL, position INTEGER NOT NULL,
    role, type, content TEXT, created_at TEXT, raw TEXT NOT NULL,
    PRIMARY KEY (project, session_id, id)
);
"""

PROGRESS = f"""
CREATE TABLE sync_projects (
    project TEXT PRIMARY KEY, api TEXT NOT NULL, server TEXT, scope TEXT NOT NULL,
    watermark TEXT, places TEXT, round TEXT, last_run TEXT,
    rounds INTEGER NOT NULL DEFAULT 0, changes INTEGER NOT NULL DEFAULT 0,
    refuted INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE sync_sessions (
    project TEXT NOT NULL, session_id TEXT NOT NULL,
    state TEXT NOT NULL, content_hash TEXT, reason TEXT, attempts INTEGER NOT NULL DEFAULT 0,
    watched INTEGER NOT NULL DEFAULT 0, settles_at TEXT, read_at TEXT,
    messages INTEGER, digest TEXT, row_digest TEXT, next TEXT, first INTEGER,
    PRIMARY KEY (project, session_id)
) WITHOUT ROWID;
CREATE INDEX sync_unfinished ON sync_sessions (project, state) WHERE state <> 'kept';
CREATE INDEX sync_watched ON sync_sessions (project, read_at) WHERE watched = 1;
CREATE INDEX sync_unread ON sync_sessions (project) WHERE next IS NOT NULL;
{UNDIGESTED}
CREATE TABLE sync_seen (
    project TEXT NOT NULL, session_id TEXT NOT NULL, PRIMARY KEY (project, session_id)
) WITHOUT ROWID;
{WAITING}{GONE}"""
"""A row of `sync_sessions` goes with each of `sessions`. Its *state* is `kept`, `pending` while its messages
are wanted in the state of the session that *content_hash* tells, or `failed` for a *reason*; *messages* and
*digest* tell what was kept of it when it was *read_at*, and *row_digest* covers its row in `sessions` (NULL
where an older version wrote both); *next* is a cursor that was not followed, and *first* the position that
the first message behind it would have.
`sync_waiting` holds open sessions that a filter on their status leaves out so far, and `sync_gone` the
messages that the API no longer gives."""

SESSIONS = """
CREATE TABLE sessions (
    project TEXT NOT NULL, id TEXT NOT NULL, api TEXT NOT NULL,
    status, start_time TEXT, end_time TEXT, title TEXT, video_url TEXT,
    raw TEXT NOT NULL, content_hash TEXT NOT NULL,
    first_seen_at TEXT NOT NULL, last_changed_at TEXT NOT NULL, deleted_at TEXT,
    PRIMARY KEY (project, id)
);
"""

IN_ORDER = "CREATE INDEX sessions_in_order ON sessions (project, start_time, id);"

SCHEMA = f"{PROGRESS}{MESSAGES}{SESSIONS}{IN_ORDER}"

LIST_AGAIN = """
UPDATE sync_projects SET watermark = NULL, round = NULL, places = NULL
WHERE scope LIKE '%"status":%' OR scope LIKE '%"end":%' OR EXISTS (
    SELECT 1 FROM sessions AS s WHERE s.project = sync_projects.project AND s.start_time > s.first_seen_at);
"""
"""Versions before the fifth could miss a session that came to match such a filter late, or appeared late
while another was dated in the future: such a project is listed from its beginning once more."""

COUNT_AGAIN = """
UPDATE sessions SET content_hash = ''
WHERE api = 'lexicon' AND deleted_at IS NULL AND raw LIKE '%"message_count"%';
"""
"""Versions before the fifth took another number of messages for no change."""

NEW_KEY_OF_MESSAGES = f"""
    DROP INDEX messages_in_order;
    ALTER TABLE messages RENAME TO old_messages;
    {MESSAGES}
    INSERT INTO messages SELECT * FROM old_messages;
    DROP TABLE old_messages;
"""

OLD_UNREAD = """
CREATE TABLE sync_unread (
    project TEXT NOT NULL, session_id TEXT NOT NULL, content_hash TEXT,
    next TEXT NOT NULL, first INTEGER NOT NULL,
    PRIMARY KEY (project, session_id)
);
"""

UPGRADES = {
    1: (f"{OLD_UNREAD} ALTER TABLE sync_projects ADD COLUMN refuted INTEGER NOT NULL DEFAULT 0;", 2),
    2: (
        f"""
    ALTER TABLE sync_projects RENAME TO old_projects;
    ALTER TABLE sync_unread RENAME TO old_unread;
    {PROGRESS}
    INSERT INTO sync_projects (project, api, scope, watermark, places, rounds, refuted, round)
    SELECT project, api, scope, replace(watermark, ' ', 'T') || 'Z', next, listings, refuted,
           CASE WHEN next IS NOT NULL
                THEN json_object('began', strftime('%Y-%m-%dT%H:%M:%SZ'),
                                 'reached', replace(reached, ' ', 'T') || 'Z') END
    FROM old_projects;
    INSERT INTO sync_sessions (project, session_id, state, content_hash, reason, attempts)
    SELECT project, session_id, CASE WHEN reason IS NULL THEN 'pending' ELSE 'failed' END,
           content_hash, reason, attempts
    FROM sync_pending;
    INSERT OR IGNORE INTO sync_sessions (project, session_id, state, content_hash)
    SELECT project, id, 'kept', content_hash FROM sessions;
    UPDATE sync_sessions SET next = old.next, first = old.first FROM old_unread AS old
    WHERE old.project = sync_sessions.project AND old.session_id = sync_sessions.session_id;
    UPDATE sync_sessions SET watched = 1
    WHERE EXISTS (SELECT 1 FROM sessions AS s
                  WHERE s.project = sync_sessions.project AND s.id = sync_sessions.session_id
                  AND s.deleted_at IS NULL AND COALESCE(s.status, '') NOT IN ('completed', 'failed')
                  AND (COALESCE(s.status, '') = 'active' OR s.end_time IS NULL));
    DROP TABLE old_projects; DROP TABLE old_unread; DROP TABLE sync_pending;
    {NEW_KEY_OF_MESSAGES}{LIST_AGAIN}
    """,
        5,
    ),
    3: (
        f"""
    {NEW_KEY_OF_MESSAGES}
    ALTER TABLE sync_gone RENAME TO old_gone;
    {GONE}
    INSERT INTO sync_gone SELECT * FROM old_gone;
    DROP TABLE old_gone;
    """,
        4,
    ),
    4: (
        f"""
    ALTER TABLE sync_projects ADD COLUMN server TEXT;
    ALTER TABLE sync_sessions ADD COLUMN row_digest TEXT;
    {UNDIGESTED}
    {COUNT_AGAIN}
    {WAITING}{LIST_AGAIN}
    """,
        5,
    ),
}
"""What makes a version into a later one, and which."""
