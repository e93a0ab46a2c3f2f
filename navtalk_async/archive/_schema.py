"""The tables of an archive, once for both databases, and the one step that upgrades an earlier version.

These words differ from database to database: `{text}`, which is compared by its bytes; `{word}`, a word or a
number; `{nulls_first}`, in an index; `{random}`, sixteen random digits; `{seconds}…{of}`, a time in seconds.
"""

from collections.abc import Collection, Iterator, Mapping

from navtalk_async.archive._views import views
from navtalk_async.errors import StoreMismatch

APPLICATION_ID = 0x6E617674  # "navt": how `file` and we tell an archive from any other SQLite file
SCHEMA_VERSION = 8

MESSAGE = (
    "position BIGINT NOT NULL, role {word}, type {word}, content TEXT, created_at {text}, raw TEXT NOT NULL"
)
CHANGE = "change BIGINT NOT NULL DEFAULT 0"

COLUMNS = {
    "sessions": (
        "project {text} NOT NULL, id {text} NOT NULL, api TEXT NOT NULL, status {word}, start_time {text},"
        "end_time {text}, updated_at {text}, title TEXT, user_id TEXT, video_url TEXT, raw TEXT NOT NULL,"
        "content_hash TEXT NOT NULL, first_seen_at {text} NOT NULL, last_changed_at {text} NOT NULL,"
        f"deleted_at {{text}}, {CHANGE}"
    ),
    "messages": (
        f"project {{text}} NOT NULL, session_id {{text}} NOT NULL, id {{text}} NOT NULL, {MESSAGE}, {CHANGE}"
    ),
    "message_history": (
        f"project {{text}} NOT NULL, session_id {{text}} NOT NULL, id {{text}} NOT NULL, {CHANGE}, {MESSAGE},"
        "replaced_at {text} NOT NULL, reason TEXT NOT NULL, since BIGINT NOT NULL DEFAULT 0"
    ),
    "sync_projects": (
        "project {text} NOT NULL, api TEXT NOT NULL, server TEXT, scope TEXT NOT NULL, watermark {text},"
        "places TEXT, round TEXT, last_run TEXT, rounds BIGINT NOT NULL DEFAULT 0,"
        "changes BIGINT NOT NULL DEFAULT 0, refuted BOOLEAN NOT NULL DEFAULT FALSE"
    ),
    "sync_sessions": (
        "project {text} NOT NULL, session_id {text} NOT NULL, state TEXT NOT NULL, content_hash TEXT,"
        "reason TEXT, attempts BIGINT NOT NULL DEFAULT 0, watched BOOLEAN NOT NULL DEFAULT FALSE,"
        "settles_at {text}, read_at {text}, messages BIGINT, digest TEXT, row_digest TEXT, next TEXT,"
        f"first BIGINT, {CHANGE}, before BIGINT NOT NULL DEFAULT 0, entered BIGINT NOT NULL DEFAULT 0,"
        "returned BIGINT NOT NULL DEFAULT 0"
    ),
    "sync_seen": "project {text} NOT NULL, session_id {text} NOT NULL",
    "sync_waiting": (
        "project {text} NOT NULL, session_id {text} NOT NULL, start_time {text}, gone_at {text}"
    ),
    "sync_moves": (
        f"project {{text}} NOT NULL, session_id {{text}} NOT NULL, id {{text}} NOT NULL, {CHANGE},"
        "since BIGINT NOT NULL, position BIGINT NOT NULL"
    ),
    "sync_archive": "id {text} NOT NULL, acks BIGINT NOT NULL DEFAULT 0",
    "sync_epochs": "change BIGINT NOT NULL, id {text} NOT NULL",
    "sync_consumers": "name {text} NOT NULL, project {text}, token TEXT NOT NULL, acked_at {text}",
    "sync_forgotten": (
        f"project {{text}} NOT NULL, digest {{text}} NOT NULL, forgotten_at {{text}} NOT NULL, {CHANGE},"
        "erased BOOLEAN NOT NULL DEFAULT FALSE"
    ),
}
"""`change` is the number of the commit that wrote the row, of all commits to the archive; 0 where an earlier
version wrote it. The `changes` of a project are the number of the latest commit that changed anything of it.
`message_history` holds every earlier text of an edited message, and every deleted one, with the commit that
replaced it, and in *since* the one that had written it; its *reason* is `edited` or `deleted`. `sync_moves`
holds the earlier positions of messages that were only moved.

A row of `sync_sessions` goes with each of `sessions`. Its *state* is `kept`, `pending` while its messages
are wanted in the state of the session that *content_hash* tells, or `failed` for a *reason*; *messages* and
*digest* tell what was kept of it when it was *read_at*, and *row_digest* covers its row in `sessions` (NULL
where an older version wrote both); *next* is a cursor that was not followed, and *first* the position that
the first message behind it would have. `sync_waiting` holds open sessions that a filter on their status
leaves out so far.

The change feed reads `sync_sessions` by *change*: the latest commit with which something of the session was
ready to be handed on, 0 before its first; *before* is that of the change before, *entered* its first one, and
*returned* the one with which a session that was gone came back, -1 while it is gone. `sync_consumers` holds
how far each consumer of the feed has come. `sync_epochs` holds the first commit of each run: where an older
copy of the archive was restored, other runs give the same numbers again.

`sync_forgotten` holds the `digest_of` each session that was forgotten, with the commit that deleted what was
kept of it, 0 where nothing was; it is *erased* once nothing of it is left in free pages either."""

KEYS = {
    "sessions": "project, id",
    # Not every API says that the id of a message is one in more than its session.
    "messages": "project, session_id, id",
    "message_history": "project, session_id, id, change",
    "sync_projects": "project",
    "sync_sessions": "project, session_id",
    "sync_seen": "project, session_id",
    "sync_waiting": "project, session_id",
    "sync_moves": "project, session_id, id, change",
    "sync_archive": "id",
    "sync_epochs": "change",
    "sync_consumers": "name",
    "sync_forgotten": "project, digest",
}

INDEXES = {
    "sessions_in_order": "sessions (project, start_time{nulls_first}, id)",
    "sessions_by_id": "sessions (id)",
    "forgotten_by_change": "sync_forgotten (change, project, digest)",
    "messages_by_change": "messages (change)",
    "sync_by_change": "sync_sessions (change, project, session_id) WHERE change > 0",
    "sync_unfinished": "sync_sessions (project, state) WHERE state <> 'kept'",
    "sync_watched": "sync_sessions (project, read_at) WHERE watched",
    "sync_unread": "sync_sessions (project) WHERE next IS NOT NULL",
}

SINCE_8 = ("sessions_by_id", "forgotten_by_change")
EARLIER_INDEXES = ("messages_in_order", "sync_undigested", "sessions_by_change")
EARLIER_TABLES = ("sync_gone", "sync_pending", "sync_unread")


def refuse_version(version: int, place: object, *, read_only: bool) -> None:
    """Refuse an archive of a later *version*; to read only, of an earlier one too."""
    if version > SCHEMA_VERSION:
        raise StoreMismatch(f"{place} was written by a newer version of navtalk-async; please upgrade.")
    if read_only and version < SCHEMA_VERSION:
        raise StoreMismatch(f"{place} was written by an older version; `navtalk sync {place}` upgrades it.")


def table_of(name: str) -> str:
    """The statement that makes the table *name*."""
    return f"CREATE TABLE {name} ({COLUMNS[name]}, PRIMARY KEY ({KEYS[name]}));"


def schema() -> Iterator[str]:
    """The statements that make an archive."""
    yield from _tables()
    yield NAME_THE_ARCHIVE
    yield from views()


def _tables() -> Iterator[str]:
    yield from map(table_of, COLUMNS)
    yield from (f"CREATE INDEX {name} ON {of};" for name, of in INDEXES.items())


NAME_THE_ARCHIVE = "INSERT INTO sync_archive (id) VALUES ({random});"


def upgrade(version: int, found: Mapping[str, Collection[str]]) -> Iterator[str]:
    """The statements that make an archive of an earlier *version* into one of this: new tables, the columns
    that both have copied, the others filled, the old tables dropped. *found* are the columns of its tables.

    A view of ours is left out where a name is taken by one of the user's.
    """
    if version == 7:
        yield table_of("sync_forgotten")
        yield from (f"CREATE INDEX {name} ON {INDEXES[name]};" for name in SINCE_8)
    else:
        yield from _rebuilt(version, found)
    yield from views(found)


def _rebuilt(version: int, found: Mapping[str, Collection[str]]) -> Iterator[str]:
    yield from (f"DROP INDEX IF EXISTS {name};" for name in (*INDEXES, *EARLIER_INDEXES))
    old = [name for name in (*COLUMNS, *EARLIER_TABLES) if name in found]
    yield from (f"ALTER TABLE {name} RENAME TO old_{name};" for name in old)
    yield from _tables()
    for name in COLUMNS.keys() & found.keys():
        both = ", ".join(each for each in columns_of(name) if each in found[name])
        # A damaged index may have let a row in twice.
        yield f"INSERT INTO {name} ({both}) SELECT {both} FROM old_{name} WHERE TRUE ON CONFLICT DO NOTHING;"
    if "sync_gone" in found:
        yield GONE_TO_HISTORY
    if "sync_unread" in found:
        yield f"{PENDING_TO_SESSIONS} {UNREAD_TO_SESSIONS}"
    elif "sync_pending" in found:
        yield PENDING_TO_SESSIONS
    if version < 5:
        yield f"{COUNT_AGAIN} {LIST_AGAIN}"
    if version < 7:
        yield f"{INTO_THE_FEED} {NAME_THE_ARCHIVE}"
    yield from (f"DROP TABLE old_{name};" for name in old)


def columns_of(table: str) -> list[str]:
    return [each.split()[0] for each in COLUMNS[table].split(",")]


GONE = "project, session_id, id, position, role, type, content, created_at, raw"

GONE_TO_HISTORY = f"""
INSERT INTO message_history ({GONE}, replaced_at, reason)
SELECT {GONE}, gone_at, 'deleted' FROM old_sync_gone;
"""

PENDING_TO_SESSIONS = """
UPDATE sync_projects SET watermark = replace(watermark, ' ', 'T') || 'Z',
    (places, rounds, round) = (
        SELECT CASE WHEN next LIKE '{{%' THEN json_array(json_object('next', json(next))) ELSE next END,
        listings, CASE WHEN next IS NOT NULL
            THEN json_object('began', strftime('%Y-%m-%dT%H:%M:%SZ'),
                             'reached', replace(reached, ' ', 'T') || 'Z') END
        FROM old_sync_projects AS old WHERE old.project = sync_projects.project);
INSERT INTO sync_sessions (project, session_id, state, content_hash, reason, attempts)
SELECT project, session_id, CASE WHEN reason IS NULL THEN 'pending' ELSE 'failed' END,
       content_hash, reason, attempts
FROM old_sync_pending;
INSERT OR IGNORE INTO sync_sessions (project, session_id, state, content_hash)
SELECT project, id, 'kept', content_hash FROM sessions;
UPDATE sync_sessions SET watched = TRUE
WHERE EXISTS (SELECT 1 FROM sessions AS s
              WHERE s.project = sync_sessions.project AND s.id = sync_sessions.session_id
              AND s.deleted_at IS NULL AND COALESCE(s.status, '') NOT IN ('completed', 'failed')
              AND (COALESCE(s.status, '') = 'active' OR s.end_time IS NULL));
"""
"""The first two versions, of SQLite alone, had a table of pending sessions, and watched none."""

UNREAD_TO_SESSIONS = """
UPDATE sync_sessions SET next = old.next, first = old.first FROM old_sync_unread AS old
WHERE old.project = sync_sessions.project AND old.session_id = sync_sessions.session_id;
"""

COUNT_AGAIN = """
UPDATE sessions SET content_hash = ''
WHERE api = 'lexicon' AND deleted_at IS NULL AND raw LIKE '%"message_count"%';
"""
"""Versions before the fifth took another number of messages for no change."""

LIST_AGAIN = """
UPDATE sync_projects SET watermark = NULL, round = NULL, places = NULL
WHERE scope LIKE '%"status":%' OR scope LIKE '%"end":%' OR EXISTS (
    SELECT 1 FROM sessions AS s WHERE s.project = sync_projects.project AND s.start_time > s.first_seen_at);
"""
"""Versions before the fifth could miss a session that came to match such a filter late, or appeared late
while another was dated in the future: such a project is listed from its beginning once more."""

INTO_THE_FEED = """
UPDATE sync_projects SET changes = 1 WHERE changes = 0;
UPDATE sync_sessions SET change = 1, entered = 1, returned = (
    SELECT CASE WHEN s.deleted_at IS NULL THEN 0 ELSE -1 END FROM sessions AS s
    WHERE s.project = sync_sessions.project AND s.id = sync_sessions.session_id)
WHERE state <> 'pending' AND EXISTS (
    SELECT 1 FROM sessions AS s WHERE s.project = sync_sessions.project AND s.id = sync_sessions.session_id);
"""
"""Versions before the seventh had no feed: its first commit is what they had kept."""
