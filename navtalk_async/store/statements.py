"""Statements that every database of ours understands; a question mark stands for each value."""

from navtalk_async.store.rows import SessionRow

__all__ = [
    "COUNTS",
    "DISTRUST",
    "FAILURES",
    "FLAWS",
    "FORGET_SEEN",
    "GIVE_UP_ROUND",
    "KNOWN_ORDERS",
    "NOTE_RUN",
    "PLACES",
    "PROJECTS",
    "READ_WHOLE",
    "REFUTE",
    "REREAD_ROW",
    "RETRY",
    "ROUND",
    "SERVER",
    "SESSIONS_A_READ",
    "STANDING",
    "UNFINISHED",
    "UNREAD",
    "UNWATCH",
    "VANISH",
    "VANISHED",
    "VANISHING",
    "WAITED",
    "WAITING",
]

PROJECTS = """
SELECT project, api, server, scope, watermark, rounds, changes, round, last_run FROM sync_projects
ORDER BY project
"""

COUNTS = """
SELECT (SELECT COUNT(*) FROM sessions WHERE project = ?),
       (SELECT COUNT(*) FROM messages WHERE project = ?),
       (SELECT COUNT(*) FROM sessions WHERE project = ? AND deleted_at IS NOT NULL),
       COUNT(*) FILTER (WHERE state = 'pending'), COUNT(*) FILTER (WHERE state = 'failed'),
       COUNT(*) FILTER (WHERE watched), COUNT(*) FILTER (WHERE next IS NOT NULL),
       EXISTS (SELECT 1 FROM sync_projects WHERE project = ? AND round IS NULL AND rounds > 0)
FROM sync_sessions WHERE project = ?
"""

FAILURES = """
SELECT session_id, reason, attempts FROM sync_sessions
WHERE project = ? AND state = 'failed' ORDER BY session_id
"""

FLAWS = {
    "Messages of session {0} are kept, and the session is not.": """
        SELECT DISTINCT session_id FROM messages AS m WHERE project = ? AND NOT EXISTS (
            SELECT 1 FROM sessions AS s WHERE s.project = m.project AND s.id = m.session_id)""",
    "Session {0} was kept, and is not there.": """
        SELECT session_id FROM sync_sessions AS y
        WHERE project = ? AND content_hash IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM sessions AS s WHERE s.project = y.project AND s.id = y.session_id)""",
    "Nothing is known of how session {0} was kept.": """
        SELECT id FROM sessions AS s WHERE project = ? AND NOT EXISTS (
            SELECT 1 FROM sync_sessions AS y WHERE y.project = s.project AND y.session_id = s.id)""",
}
"""What is wrong of each session that one of these finds."""

SESSIONS_A_READ = 25
"""How many sessions are read with their messages at a time: so much is in memory."""

STANDING = """
SELECT api, server, scope, places, round, rounds, watermark, refuted FROM sync_projects WHERE project = ?
"""

SERVER = "UPDATE sync_projects SET server = ? WHERE project = ?"

WAITING = "SELECT session_id FROM sync_waiting WHERE project = ?"

WAITED = "DELETE FROM sync_waiting WHERE project = ? AND session_id = ?"

UNFINISHED = "SELECT session_id, content_hash, state FROM sync_sessions WHERE project = ? AND state <> 'kept'"

UNREAD = """
SELECT session_id, content_hash, next, first FROM sync_sessions
WHERE project = ? AND next IS NOT NULL AND state = 'kept'
"""

KNOWN_ORDERS = ("start_time DESC", "start_time", "id")
"""The newest session, the oldest, and the first by id: seldom all of one sort, such as trials."""

RETRY = """
UPDATE sync_sessions SET state = 'pending', reason = NULL WHERE project = ? AND state = 'failed'
"""

FORGET_SEEN = "DELETE FROM sync_seen WHERE project = ?"

UNWATCH = """
UPDATE sync_sessions SET watched = FALSE WHERE project = ? AND watched
AND session_id IN (SELECT id FROM sessions WHERE project = ? AND start_time < ?)
"""

GIVE_UP_ROUND = "UPDATE sync_projects SET round = NULL, places = NULL WHERE project = ?"

ROUND = "UPDATE sync_projects SET round = ? WHERE project = ?"

PLACES = "UPDATE sync_projects SET places = ? WHERE project = ?"

NOTE_RUN = "UPDATE sync_projects SET last_run = ? WHERE project = ?"

VANISHING = f"""
SELECT {", ".join(f"s.{name}" for name in SessionRow._fields)}, y.row_digest
FROM sessions AS s LEFT JOIN sync_sessions AS y ON y.project = s.project AND y.session_id = s.id
WHERE s.project = ? AND s.id = ?
"""

VANISH = "UPDATE sessions SET deleted_at = ? WHERE project = ? AND id = ? AND deleted_at IS NULL"

VANISHED = """
UPDATE sync_sessions SET state = 'kept', reason = NULL, watched = FALSE, next = NULL, row_digest = ?
WHERE project = ? AND session_id = ?
"""

READ_WHOLE = """
UPDATE sync_sessions SET state = 'pending', messages = NULL WHERE project = ? AND session_id = ?
"""
"""For sessions whose kept messages are not those that were written: nothing can be added to them."""

DISTRUST = """
INSERT INTO sync_sessions (project, session_id, state) VALUES (?, ?, 'pending')
ON CONFLICT (project, session_id) DO UPDATE SET
    state = 'pending', content_hash = NULL, messages = NULL, reason = NULL, attempts = 0
"""
"""The digests stay: until the session is saved again, they tell that it is damaged."""

REREAD_ROW = "UPDATE sessions SET content_hash = '' WHERE project = ? AND id = ?"
"""An empty hash is no session's: its row is written again, whatever the API says."""

REFUTE = "UPDATE sync_projects SET refuted = TRUE WHERE project = ?"
