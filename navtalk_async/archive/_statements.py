"""The statements of an archive, in the words of `database`."""

from collections.abc import Sequence

from navtalk_async.archive.records import FULL_PAGE
from navtalk_async.archive.rows import MessageRow, SessionRow

SESSION_COLUMNS = ", ".join(f"s.{name}" for name in SessionRow._fields)
ID_OF_SESSION = SessionRow._fields.index("id")
RAW_OF_MESSAGE = MessageRow._fields.index("raw")
MESSAGE_COLUMNS = ", ".join(MessageRow._fields)
ALL_OF_SESSION = ", ".join([*SessionRow._fields, "change"])
COLUMNS_OF_KEPT = (
    "project, session_id, state, content_hash, read_at, settles_at, messages, digest, next, first, change, "
    "entered"
)

# Read.

PROJECT_COLUMNS = "project, api, server, scope, watermark, rounds, changes, round, last_run"
PROJECTS = f"SELECT {PROJECT_COLUMNS} FROM sync_projects ORDER BY project"

COUNTS = """
SELECT (SELECT COUNT(*) FROM sessions WHERE project = ?),
       (SELECT COUNT(*) FROM messages WHERE project = ?),
       (SELECT COUNT(*) FROM sessions WHERE project = ? AND deleted_at IS NOT NULL),
       COUNT(*) FILTER (WHERE state NOT IN ('kept', 'failed')), COUNT(*) FILTER (WHERE state = 'failed'),
       COUNT(*) FILTER (WHERE watched), COUNT(*) FILTER (WHERE next IS NOT NULL),
       EXISTS (SELECT 1 FROM sync_projects WHERE project = ? AND round IS NULL AND rounds > 0)
FROM sync_sessions WHERE project = ?
"""

FAILURES = """
SELECT session_id, reason, attempts FROM sync_sessions
WHERE project = ? AND state = 'failed' ORDER BY session_id
"""

PENDING = """
SELECT session_id FROM sync_sessions
WHERE project = ? AND state NOT IN ('kept', 'failed') ORDER BY session_id
"""

FLAWS = {
    "Messages of session {0} are kept, and the session is not.": """
        SELECT session_id FROM (SELECT DISTINCT session_id FROM messages WHERE project = ?) AS m
        WHERE NOT EXISTS (SELECT 1 FROM sessions AS s WHERE s.project = ? AND s.id = m.session_id)""",
    "Session {0} was kept, and is not there.": """
        SELECT session_id FROM sync_sessions AS y
        WHERE project = ? AND content_hash IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM sessions AS s WHERE s.project = y.project AND s.id = y.session_id)""",
    "Nothing is known of how session {0} was kept.": """
        SELECT id FROM sessions AS s WHERE project = ? AND NOT EXISTS (
            SELECT 1 FROM sync_sessions AS y WHERE y.project = s.project AND y.session_id = s.id)""",
    "An index of the archive is damaged: it does not lead to every session.": """
        SELECT NULL WHERE (SELECT COUNT(*) FROM sessions WHERE project = ?) < (
            SELECT COUNT(*) FROM sync_sessions AS y WHERE project = ? AND EXISTS (
                SELECT 1 FROM sessions AS s WHERE s.project = y.project AND s.id = y.session_id))""",
}
"""What is wrong of each session that one of these finds; of the whole, where it finds no session's id."""

SESSIONS_A_READ = 100
MESSAGES_A_READ = 2_000
BYTES_A_READ = 1 << 22
"""The most that is read at a time, and so in memory: each read costs as much as some 100 messages. Of bytes,
an estimate by those of the read before; one session is read as a whole, however long it is."""

SESSIONS = f"""
SELECT {SESSION_COLUMNS}, y.digest, y.row_digest, y.state <> 'kept' OR y.watched, y.messages
FROM sessions AS s LEFT JOIN sync_sessions AS y ON y.project = s.project AND y.session_id = s.id
WHERE s.project = ? ORDER BY s.start_time NULLS FIRST, s.id
"""

SOME_SESSIONS = f"{SESSIONS.partition('ORDER')[0]}AND s.id {{any}}"

MESSAGES = f"""
SELECT {MESSAGE_COLUMNS} FROM messages
WHERE project = ? AND session_id {{any}} ORDER BY session_id, position
"""

TEXTS = """
SELECT session_id, position, role, content FROM messages
WHERE project = ? AND session_id {any} ORDER BY session_id, position
"""

LONGEST_COLUMN = {MESSAGES: RAW_OF_MESSAGE, TEXTS: 3}
"""Of statements that select messages, the column whose length decides how many are read at a time."""

MESSAGES_AT = f"""
SELECT {MESSAGE_COLUMNS} FROM messages
WHERE project = ? AND session_id = ? AND position {{any}} ORDER BY position
"""

MESSAGE_TIMES = """
SELECT session_id, role, created_at FROM messages
WHERE project = ? AND session_id {any} ORDER BY session_id, position
"""

# The change feed.

NEXT_CHANGE = "SELECT MAX(changes) + 1 FROM sync_projects"
"""The number of this commit, if it changes anything."""

MOST_EPOCHS = 10_000

BEGIN_EPOCH = f"INSERT INTO sync_epochs (change, id) VALUES (({NEXT_CHANGE}), ?)"
FORGET_EPOCHS = f"""
DELETE FROM sync_epochs WHERE change <= (
    SELECT change FROM sync_epochs ORDER BY change DESC LIMIT 1 OFFSET {MOST_EPOCHS})
"""

EPOCHS = """
SELECT change, id FROM sync_epochs WHERE change <= ? AND change >= COALESCE((
    SELECT MAX(change) FROM sync_epochs WHERE change <= ?), 0) ORDER BY change
"""
"""Those of all commits from one to another, which are given the other way round."""

LATEST = "SELECT (SELECT id FROM sync_archive), (SELECT COALESCE(MAX(changes), 0) FROM sync_projects)"

ENTRIES = f"""
SELECT {SESSION_COLUMNS},
       y.change, y.before, y.entered, y.returned, COALESCE(y.messages, 0), y.state = 'failed'
FROM sync_sessions AS y JOIN sessions AS s ON s.project = y.project AND s.id = y.session_id
"""

CHANGED = f"""{ENTRIES}
WHERE y.change > 0 AND (y.change, y.project, y.session_id) > (?, ?, ?) {{project}}
ORDER BY y.change, y.project, y.session_id LIMIT ?
"""

ENTRY = f"{ENTRIES} WHERE y.project = ? AND y.session_id = ?"

BEHIND = """
SELECT COUNT(*) FROM sync_sessions AS y
WHERE y.change > 0 AND (y.change, y.project, y.session_id) > (?, ?, ?) {project}
"""


def of_project(
    query: str, place: tuple[int, str, str], project: str | None, *more: object
) -> tuple[str, Sequence[object]]:
    """*query* of the feed behind *place*, of one *project* or all, with its values."""
    if project is None:
        return query.format(project=""), (*place, *more)
    return query.format(project="AND y.project = ?"), (*place, project, *more)


MESSAGES_SINCE = f"""
SELECT {MESSAGE_COLUMNS} FROM messages
WHERE project = ? AND change > ? AND session_id {{any}} ORDER BY session_id, position
"""

MESSAGES_OF_COMMITS = f"""
SELECT {MESSAGE_COLUMNS}, change FROM messages WHERE change {{any}} ORDER BY session_id, position
"""

MESSAGES_OF_SPAN = f"""
SELECT {MESSAGE_COLUMNS} FROM messages
WHERE change > ? AND change <= ? AND session_id {{any}} ORDER BY session_id, position
"""

COUNT_OF_COMMITS = """
SELECT COUNT(*) FROM (SELECT 1 FROM messages WHERE change > ? AND change <= ? LIMIT ?) AS found
"""

MESSAGES_WITH_CHANGE = (
    f"SELECT {MESSAGE_COLUMNS}, change FROM messages WHERE project = ? AND session_id {{any}}"
)

VERSIONS = f"""
SELECT {MESSAGE_COLUMNS}, since, change FROM message_history
WHERE project = ? AND change > ? AND session_id {{any}} ORDER BY change, position
"""

MOVES = """
SELECT session_id, id, position, since, change FROM sync_moves
WHERE project = ? AND change > ? AND session_id {any}
"""

HISTORY = f"""
SELECT {MESSAGE_COLUMNS}, reason, replaced_at FROM message_history
WHERE project = ? AND session_id = ? ORDER BY change, position
"""

CONSUMERS = "SELECT name, project, token, acked_at FROM sync_consumers ORDER BY name"
CONSUMER = "SELECT project, token FROM sync_consumers WHERE name = ?"
ACKNOWLEDGE = "UPDATE sync_consumers SET token = ?, acked_at = ? WHERE name = ? AND token IN (?, ?, ?)"
COUNT_ACK = "UPDATE sync_archive SET acks = acks + 1"

CONTAINS = "SELECT id FROM sessions WHERE project = ? AND id {any}"
UNDER_WAY = "SELECT session_id FROM sync_sessions WHERE project = ? AND state <> 'kept' AND session_id {any}"
STATE = f"SELECT {PROJECT_COLUMNS}, places, refuted FROM sync_projects WHERE project = ?"
WAITING = "SELECT session_id FROM sync_waiting WHERE project = ?"
UNFINISHED = "SELECT session_id, content_hash, state FROM sync_sessions WHERE project = ? AND state <> 'kept'"

UNFOLLOWED = """
SELECT session_id, content_hash, next, first FROM sync_sessions
WHERE project = ? AND next IS NOT NULL AND state = 'kept'
"""

SOME = [
    f"SELECT id FROM sessions WHERE project = ? AND deleted_at IS NULL ORDER BY {order} LIMIT 1"
    for order in ("start_time DESC", "start_time", "id")
]
"""The newest session, the oldest, and the first by id: seldom all of one sort, such as trials."""

MISSING = """
SELECT id FROM sessions AS s WHERE project = ? AND id > ? AND deleted_at IS NULL
AND (CAST(? AS TEXT) IS NULL OR start_time > ?) AND NOT EXISTS (
    SELECT 1 FROM sync_seen WHERE project = s.project AND session_id = s.id)
ORDER BY id LIMIT ?
"""

WATCHED = """
SELECT session_id FROM sync_sessions AS y JOIN sessions AS s ON s.project = y.project AND s.id = y.session_id
WHERE y.project = ? AND y.session_id > ? AND watched AND (
    (state = 'kept' AND COALESCE(read_at, '') < ?) OR (state = 'pending' AND last_changed_at < ?))
UNION SELECT session_id FROM sync_waiting
WHERE project = ? AND session_id > ? AND (CAST(? AS TEXT) IS NULL OR COALESCE(start_time >= ?, TRUE))
ORDER BY session_id LIMIT ?
"""

STORED = f"""
SELECT s.id, CASE WHEN s.deleted_at IS NULL THEN s.content_hash END,
       y.state = 'pending', y.state = 'failed', y.watched, y.settles_at, y.read_at, COALESCE(y.messages, 0),
       CASE WHEN y.messages >= {FULL_PAGE} THEN (
           SELECT m.created_at FROM messages AS m WHERE m.project = s.project AND m.session_id = s.id
           ORDER BY m.position DESC LIMIT 1) END,
       s.deleted_at IS NOT NULL
FROM sessions AS s JOIN sync_sessions AS y ON y.project = s.project AND y.session_id = s.id
WHERE s.project = ? AND s.id {{any}}
"""

DIGESTS = "SELECT session_id, digest FROM sync_sessions WHERE project = ? AND session_id {any}"

OF_EARLIER_VERSIONS = f"""
SELECT {SESSION_COLUMNS}, y.digest, y.row_digest
FROM sessions AS s JOIN sync_sessions AS y ON y.project = s.project AND y.session_id = s.id
WHERE s.project = ? AND s.change = 0 AND y.state = 'kept' LIMIT 500
"""

TO_DELETE = f"""
SELECT {SESSION_COLUMNS}, y.row_digest
FROM sessions AS s LEFT JOIN sync_sessions AS y ON y.project = s.project AND y.session_id = s.id
WHERE s.project = ? AND s.id = ?
"""

STRAYS = """
SELECT read_at IS NULL AND row_digest IS NULL FROM sync_sessions WHERE project = ? AND session_id = ?
AND state = 'pending' AND attempts = 0 AND content_hash IS NULL
"""
"""Whether a session that was distrusted was never known to be kept."""

CHANGES = "SELECT changes FROM sync_projects UNION ALL SELECT acks FROM sync_archive"

PROGRESS = (
    """SELECT project, api, server, scope, watermark, places, round, last_run, rounds, refuted
    FROM sync_projects ORDER BY project""",
    "SELECT * FROM sync_sessions ORDER BY project, session_id",
    "SELECT * FROM sync_waiting ORDER BY project, session_id",
    "SELECT * FROM sync_consumers ORDER BY name",
    "SELECT * FROM sync_forgotten ORDER BY project, digest",
    "SELECT project, COUNT(*), COUNT(deleted_at) FROM sessions GROUP BY project ORDER BY project",
)
"""Whatever a transaction writes, it changes something of this."""

# Sessions that are forgotten.

ITS_IDS = {
    "sessions": "id",
    **dict.fromkeys(("messages", "message_history"), "session_id"),
    **dict.fromkeys(("sync_sessions", "sync_moves", "sync_seen", "sync_waiting"), "session_id"),
}
"""The column of each table that names a session."""

ERASE = [f"DELETE FROM {table} WHERE project = ? AND {name} {{any}}" for table, name in ITS_IDS.items()]
IDS_IN = {table: f"SELECT DISTINCT {name} FROM {table} WHERE project = ?" for table, name in ITS_IDS.items()}

HELD_OF_USER = "SELECT id FROM sessions WHERE project = ? AND user_id = ?"
HELD_BEFORE = """
SELECT id FROM sessions WHERE project = ? AND RTRIM(start_time, 'Z') < ?
UNION SELECT session_id FROM sync_waiting WHERE project = ? AND RTRIM(start_time, 'Z') < ?
"""
COUNT_MESSAGES = "SELECT COUNT(*) FROM messages WHERE project = ? AND session_id {any}"

FORGOTTEN_AGAIN = "change = excluded.change, erased = FALSE WHERE excluded.change > 0"
NOTES = "SELECT places, last_run FROM sync_projects WHERE project = ?"
NOT_ERASED = "SELECT DISTINCT project FROM sync_forgotten WHERE NOT erased"
TOMBSTONES = """
SELECT digest FROM sync_forgotten WHERE project = ? AND digest > ? ORDER BY digest LIMIT 10000
"""

ALL_TOMBSTONES = """
SELECT project, (SELECT id FROM sync_archive), digest, change FROM sync_forgotten ORDER BY project
"""

FORGOTTEN = """
SELECT y.project, y.digest, y.forgotten_at, y.change FROM sync_forgotten AS y
WHERE y.change > 0 AND (y.change, y.project, y.digest) > (?, ?, ?) {project}
ORDER BY y.change, y.project, y.digest LIMIT ?
"""
BEHIND_FORGOTTEN = """
SELECT COUNT(*) FROM sync_forgotten AS y
WHERE y.change > 0 AND (y.change, y.project, y.digest) > (?, ?, ?) {project}
"""

# Written for one project or session.

COUNT_CHANGE = f"UPDATE sync_projects SET changes = ({NEXT_CHANGE}) WHERE project = ?"

UNBIND = """
UPDATE sync_projects SET api = ?, server = ?, scope = ?, refuted = FALSE
WHERE project = ? AND (api <> ? OR server <> ? OR scope <> ?) AND round IS NULL AND rounds = 0
AND NOT EXISTS (SELECT 1 FROM sessions WHERE project = ?)
"""
"""A project of which nothing came yet, its key being refused, say, is not bound to its filters."""

BEGIN = "INSERT INTO sync_projects (project, api, scope) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
RETRY = "UPDATE sync_sessions SET state = 'pending', reason = NULL WHERE project = ? AND state = 'failed'"

UNWATCH = """
UPDATE sync_sessions SET watched = FALSE WHERE project = ? AND watched
AND session_id IN (SELECT id FROM sessions WHERE project = ? AND start_time < ?)
"""

MARK_DELETED = f"""
UPDATE sessions SET deleted_at = ?, change = ({NEXT_CHANGE})
WHERE project = ? AND id = ? AND deleted_at IS NULL
"""

HAND_ON = "UPDATE sync_sessions SET before = change, change = ? WHERE project = ? AND session_id = ?"

HAND_ON_DELETED = f"""
UPDATE sync_sessions SET before = change, change = ({NEXT_CHANGE}), returned = -1,
entered = CASE WHEN entered = 0 THEN ({NEXT_CHANGE}) ELSE entered END
WHERE project = ? AND session_id = ?
"""

DONE_WITH = """
UPDATE sync_sessions SET state = 'kept', reason = NULL, watched = FALSE, next = NULL, row_digest = ?
WHERE project = ? AND session_id = ? AND (? OR state <> 'kept' OR watched OR next IS NOT NULL)
"""

UNWANTED = """
DELETE FROM sync_sessions WHERE project = ? AND session_id = ? AND NOT EXISTS (
    SELECT 1 FROM sessions AS s WHERE s.project = sync_sessions.project AND s.id = sync_sessions.session_id)
"""

GONE_WAITING = """
UPDATE sync_waiting SET gone_at = ? WHERE project = ? AND session_id = ? AND gone_at IS NULL
"""
FORGET_WAITING = "DELETE FROM sync_waiting WHERE project = ? AND gone_at < ?"

# How rows are updated that are there already, for many at once.


def _from_excluded(*columns: str) -> str:
    return ", ".join(f"{name} = excluded.{name}" for name in columns)


NEW_SESSION = f"{_from_excluded(*SessionRow._fields[2:12], 'last_changed_at', 'change')}, deleted_at = NULL"

NEW_MESSAGE = _from_excluded(*MessageRow._fields[3:], "change")

EARLIER = "WITH r (project, session_id, id, change, replaced_at, reason) AS ({rows})"
OF_EARLIER = "FROM r JOIN messages AS m USING (project, session_id, id) WHERE TRUE ON CONFLICT DO NOTHING"

KEEP_EARLIER_TEXTS = f"""{EARLIER}
INSERT INTO message_history ({MESSAGE_COLUMNS}, change, replaced_at, reason, since)
SELECT {MESSAGE_COLUMNS}, r.change, r.replaced_at, r.reason, m.change {OF_EARLIER}"""

KEEP_EARLIER_POSITIONS = f"""{EARLIER}
INSERT INTO sync_moves (project, session_id, id, change, since, position)
SELECT project, session_id, id, r.change, m.change, m.position {OF_EARLIER}"""

# Without the inner table, SQLite would read all messages.
DROP_MESSAGES = "DELETE FROM messages WHERE (project, session_id, id) IN (SELECT * FROM ({rows}) AS r)"

PENDING_AGAIN = """
state = 'pending', content_hash = excluded.content_hash, reason = NULL, attempts = 0,
watched = excluded.watched, settles_at = excluded.settles_at, row_digest = excluded.row_digest
"""


def _handed_on(news: str, number: str) -> str:
    """The place of a session in the change feed: where there is *news*, the *number* of this commit."""
    return f"""
    change = CASE WHEN {news} THEN {number} ELSE y.change END,
    before = CASE WHEN {news} THEN y.change ELSE y.before END,
    entered = CASE WHEN y.entered = 0 AND {news} THEN {number} ELSE y.entered END,
    returned = CASE WHEN y.returned < 0 AND {news} THEN {number} ELSE y.returned END"""


NEW_ROW = """EXISTS (SELECT 1 FROM sessions AS s WHERE s.project = y.project AND s.id = y.session_id
                    AND (y.change = 0 OR y.change < s.change))"""

NEW_DIGEST_OR_ROW = f"(y.digest {{is_not}} excluded.digest OR {NEW_ROW})"

KEPT = f"""
state = CASE WHEN y.state = 'pending' AND y.content_hash {{is_not}} excluded.content_hash
        THEN 'pending' ELSE 'kept' END,
watched = y.watched AND NOT COALESCE(y.settles_at <= excluded.settles_at, FALSE),
reason = NULL, attempts = 0, read_at = excluded.read_at, messages = excluded.messages,
digest = excluded.digest, next = excluded.next, first = excluded.first,
{_handed_on(NEW_DIGEST_OR_ROW, "excluded.change")}
WHERE y.state <> 'kept' OR y.messages {{is_not}} excluded.messages OR y.digest {{is_not}} excluded.digest
    OR y.next {{is_not}} excluded.next OR (y.watched AND y.settles_at <= excluded.settles_at)
"""
"""One of which nothing is new is not touched. Put as `settles_at` is when it was read as a whole, if it was:
only such a reading ends the watch of a session that has settled by then."""

FAILED_AGAIN = f"""state = 'failed', reason = excluded.reason, attempts = y.attempts + excluded.attempts,
{_handed_on(NEW_ROW, f"({NEXT_CHANGE})")}"""

WANTED_WHOLE = "state = 'pending', content_hash = NULL, messages = NULL, reason = NULL, attempts = 0"
"""The digests stay: until the session is saved again, they tell that it is damaged."""
