"""The statements of an archive, in the words of `database`."""

from navtalk_async.archive.records import FULL_PAGE
from navtalk_async.archive.rows import MessageRow, SessionRow

SESSION_COLUMNS = ", ".join(f"s.{name}" for name in SessionRow._fields)
ID_OF_SESSION = SessionRow._fields.index("id")
MESSAGE_COLUMNS = ", ".join(MessageRow._fields)
ALL_OF_SESSION = ", ".join([*SessionRow._fields, "change"])
COLUMNS_OF_KEPT = (
    "project, session_id, state, content_hash, read_at, settles_at, messages, digest, next, first"
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

SESSIONS_A_READ = 25
"""How many sessions are read with their messages at a time: so much is in memory."""

SESSIONS = f"""
SELECT {SESSION_COLUMNS}, y.digest, y.row_digest, y.state <> 'kept' OR y.watched
FROM sessions AS s LEFT JOIN sync_sessions AS y ON y.project = s.project AND y.session_id = s.id
WHERE s.project = ? ORDER BY s.start_time NULLS FIRST, s.id
"""

ONE_SESSION = f"{SESSIONS.partition('ORDER')[0]}AND s.id = ?"

MESSAGES = f"""
SELECT {MESSAGE_COLUMNS} FROM messages
WHERE project = ? AND session_id {{any}} ORDER BY session_id, position
"""

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

NEXT_CHANGE = "SELECT changes + 1 FROM sync_projects WHERE project = ?"
"""The number of this commit, if it changes anything."""

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

CHANGES = "SELECT changes FROM sync_projects"

PROGRESS = (
    """SELECT project, api, server, scope, watermark, places, round, last_run, rounds, refuted
    FROM sync_projects ORDER BY project""",
    "SELECT * FROM sync_sessions ORDER BY project, session_id",
    "SELECT * FROM sync_waiting ORDER BY project, session_id",
    "SELECT project, COUNT(*), COUNT(deleted_at) FROM sessions GROUP BY project ORDER BY project",
)
"""Whatever a transaction writes, it changes something of this."""

# Written for one project or session.

COUNT_CHANGE = "UPDATE sync_projects SET changes = changes + 1 WHERE project = ?"

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


FINISH = """
UPDATE sync_projects SET round = NULL, places = NULL, rounds = rounds + 1, last_run = ?,
watermark = CASE WHEN COALESCE(watermark < ?, TRUE) THEN COALESCE(?, watermark) ELSE watermark END
WHERE project = ?
"""

MARK_DELETED = f"""
UPDATE sessions SET deleted_at = ?, change = ({NEXT_CHANGE})
WHERE project = ? AND id = ? AND deleted_at IS NULL
"""


UNWANTED = """
DELETE FROM sync_sessions WHERE project = ? AND session_id = ? AND NOT EXISTS (
    SELECT 1 FROM sessions AS s WHERE s.project = sync_sessions.project AND s.id = sync_sessions.session_id)
"""

GONE_WAITING = "UPDATE sync_waiting SET gone_at = COALESCE(gone_at, ?) WHERE project = ? AND session_id = ?"
FORGET_WAITING = "DELETE FROM sync_waiting WHERE project = ? AND gone_at < ?"

# How rows are updated that are there already, for many at once.


def _from_excluded(*columns: str) -> str:
    return ", ".join(f"{name} = excluded.{name}" for name in columns)


NEW_SESSION = f"{_from_excluded(*SessionRow._fields[2:12], 'last_changed_at', 'change')}, deleted_at = NULL"

NEW_MESSAGE = _from_excluded(*MessageRow._fields[3:], "change")

DROP_MESSAGES = "DELETE FROM messages WHERE (project, session_id, id) IN ({rows})"

PENDING_AGAIN = """
state = 'pending', content_hash = excluded.content_hash, reason = NULL, attempts = 0,
watched = excluded.watched, settles_at = excluded.settles_at, row_digest = excluded.row_digest
"""

KEPT = """
state = CASE WHEN y.state = 'pending' AND y.content_hash {is_not} excluded.content_hash
        THEN 'pending' ELSE 'kept' END,
watched = y.watched AND NOT COALESCE(y.settles_at <= excluded.settles_at, FALSE),
reason = NULL, attempts = 0, read_at = excluded.read_at, messages = excluded.messages,
digest = excluded.digest, next = excluded.next, first = excluded.first
WHERE y.state <> 'kept' OR y.messages {is_not} excluded.messages OR y.digest {is_not} excluded.digest
    OR y.next {is_not} excluded.next OR (y.watched AND y.settles_at <= excluded.settles_at)
"""
"""One of which nothing is new is not touched. Put as `settles_at` is when it was read as a whole, if it was:
only such a reading ends the watch of a session that has settled by then."""

FAILED_AGAIN = "state = 'failed', reason = excluded.reason, attempts = y.attempts + excluded.attempts"

WANTED_WHOLE = "state = 'pending', content_hash = NULL, messages = NULL, reason = NULL, attempts = 0"
"""The digests stay: until the session is saved again, they tell that it is damaged."""
