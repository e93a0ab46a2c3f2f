"""What an archive has for people who write SQL: views over its tables, and comments on both (PostgreSQL)."""

from collections.abc import Collection, Iterator

VIEWS = {
    "conversation": """
SELECT s.project, s.id AS session_id, s.api, s.status, s.start_time, s.end_time, s.updated_at, s.title,
       s.user_id, s.video_url, s.deleted_at, m.position, m.id AS message_id, m.role, m.type, m.content,
       m.created_at
FROM sessions AS s JOIN messages AS m ON m.project = s.project AND m.session_id = s.id""",
    "session_stats": """
SELECT s.project, s.id AS session_id, s.api, s.status, s.start_time, s.end_time, s.user_id, s.deleted_at,
       COUNT(m.id) AS messages, COUNT(CASE WHEN m.role = 'user' THEN 1 END) AS user_messages,
       COUNT(CASE WHEN m.role = 'assistant' THEN 1 END) AS assistant_messages,
       MIN(RTRIM(m.created_at, 'Z')) || 'Z' AS first_message_at,
       MAX(RTRIM(m.created_at, 'Z')) || 'Z' AS last_message_at,
       ROUND(CAST(COALESCE({seconds}s.end_time{of}, MAX({seconds}m.created_at{of}))
                  - COALESCE({seconds}s.start_time{of}, MIN({seconds}m.created_at{of})) AS NUMERIC), 3)
           AS duration_seconds,
       (SELECT ROUND(CAST(MAX({seconds}answer{of} - {seconds}question{of}) AS NUMERIC), 3)
        FROM (SELECT role, created_at AS answer, LAG(role) OVER w AS asker, LAG(created_at) OVER w AS question
              FROM messages AS a WHERE a.project = s.project AND a.session_id = s.id
              WINDOW w AS (ORDER BY position)) AS pairs
        WHERE asker = 'user' AND role <> 'user') AS longest_wait_seconds
FROM sessions AS s LEFT JOIN messages AS m ON m.project = s.project AND m.session_id = s.id
GROUP BY s.project, s.id""",
}
"""The statement of each view. `{seconds}…{of}` is a time as a number of seconds."""

COMMENTS = {
    "sessions": "One row for each chat session that was kept. Times are ISO 8601 in UTC.",
    "sessions.project": "The name under which the sessions of one API key are kept.",
    "sessions.api": "The API it came from: navtalk, kodey, lexicon, llamacloud.",
    "sessions.status": "active, completed or failed; another number or word as the API gave it.",
    "sessions.raw": "The JSON object of the API.",
    "sessions.content_hash": "A hash of raw, which shows whether the session changed.",
    "sessions.first_seen_at": "When it was listed first.",
    "sessions.last_changed_at": "When a change of it was seen last.",
    "sessions.deleted_at": "When the API was found not to have it any more.",
    "sessions.change": "The number of the commit that wrote the row.",
    "messages": "One row for each message, as it is now.",
    "messages.position": "Its place in its session, from 0.",
    "messages.role": "user or assistant; another number or word as the API gave it.",
    "messages.type": "The number or word of the API; 0 is text.",
    "messages.raw": "The JSON object of the API.",
    "messages.change": "The number of the commit that wrote the row.",
    "message_history": "Every earlier text of a message that was edited, and of one that was deleted.",
    "message_history.replaced_at": "When the edit or deletion was seen.",
    "message_history.reason": "edited or deleted.",
    "message_history.change": "The number of the commit that replaced this text.",
    "message_history.since": "The number of the commit that had written it.",
    "conversation": "One row for each message, with the columns of its session.",
    "session_stats": "One row for each session: how many messages, by whom, and how long.",
    "session_stats.duration_seconds": "From its start to its end; from or to a message where it has none.",
    "session_stats.longest_wait_seconds": "From a message of the user to the answer; the longest.",
    "sync_projects": "How far each project has come, and its filters.",
    "sync_sessions": "How each session was kept: pending, failed or kept, digests, place in the feed.",
    "sync_seen": "What the round under way has listed.",
    "sync_waiting": "Open sessions that a filter on their status leaves out so far.",
    "sync_moves": "Earlier positions of messages that only moved.",
    "sync_archive": "The id of this archive.",
    "sync_epochs": "The first commit of each run.",
    "sync_consumers": "How far each consumer of the change feed has come.",
    "sync_forgotten": "Salted hashes of the ids of sessions that were erased, and are never fetched again.",
}
"""What PostgreSQL says of each table, view and column of which the name does not."""


def views(taken: Collection[str] = ()) -> Iterator[str]:
    """The statements that make the views, but for names that are *taken* by something else."""
    yield from (f"CREATE VIEW {name} AS {of.strip()};" for name, of in VIEWS.items() if name not in taken)


def comments(taken: Collection[str] = ()) -> Iterator[str]:
    """The statements that comment on the tables, and on the views that are not *taken* by something else."""
    for name, text in COMMENTS.items():
        owner = name.partition(".")[0]
        if owner not in taken:
            kind = "COLUMN" if owner != name else "VIEW" if name in VIEWS else "TABLE"
            yield f"COMMENT ON {kind} {name} IS '{text}';"
