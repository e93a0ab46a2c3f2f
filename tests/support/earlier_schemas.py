"""Archives as earlier versions of the schema left them, made out of one of this version."""

from pathlib import Path

from store_rows import asked

GONE = "position {int} NOT NULL, role {word}, type {word}, content TEXT, created_at {text}, raw TEXT NOT NULL"

FIFTH = {
    "sync_projects": """project {text} PRIMARY KEY, api TEXT NOT NULL, server TEXT, scope TEXT NOT NULL,
        watermark {text}, places TEXT, round TEXT, last_run TEXT, rounds {int} NOT NULL DEFAULT 0,
        changes {int} NOT NULL DEFAULT 0, refuted {flag}""",
    "sync_sessions": """project {text} NOT NULL, session_id {text} NOT NULL,
        state TEXT NOT NULL, content_hash TEXT, reason TEXT, attempts {int} NOT NULL DEFAULT 0,
        watched {flag}, settles_at {text}, read_at {text}, messages {int}, digest TEXT, row_digest TEXT,
        next TEXT, first {int}, PRIMARY KEY (project, session_id)""",
    "sync_seen": """project {text} NOT NULL, session_id {text} NOT NULL, PRIMARY KEY (project, session_id)""",
    "sync_waiting": """project {text} NOT NULL, session_id {text} NOT NULL, start_time {text}, gone_at {text},
        PRIMARY KEY (project, session_id)""",
    "sync_gone": f"""project {{text}} NOT NULL, id {{text}} NOT NULL, session_id {{text}} NOT NULL, {GONE},
        gone_at {{text}} NOT NULL, PRIMARY KEY (project, session_id, id)""",
    "sessions": """project {text} NOT NULL, id {text} NOT NULL, api TEXT NOT NULL,
        status {word}, start_time {text}, end_time {text}, title TEXT, video_url TEXT,
        raw TEXT NOT NULL, content_hash TEXT NOT NULL, first_seen_at {text} NOT NULL,
        last_changed_at {text} NOT NULL, deleted_at {text}, PRIMARY KEY (project, id)""",
    "messages": f"""project {{text}} NOT NULL, id {{text}} NOT NULL, session_id {{text}} NOT NULL, {GONE},
        PRIMARY KEY (project, session_id, id)""",
}

INDEXES = {
    "sessions_in_order": "sessions (project, start_time{first}, id)",
    "sync_unfinished": "sync_sessions (project, state) WHERE state <> 'kept'",
    "sync_watched": "sync_sessions (project, read_at) WHERE watched",
    "sync_unread": "sync_sessions (project) WHERE next IS NOT NULL",
}

COPIED = {
    "sync_projects": "project, api, scope, watermark, places, round, last_run, rounds, changes, refuted",
    "sync_sessions": """project, session_id, state, content_hash, reason, attempts, watched, settles_at,
        read_at, messages, digest, next, first""",
    "sync_seen": "project, session_id",
    "sessions": """project, id, api, status, start_time, end_time, title, video_url, raw, content_hash,
        first_seen_at, last_changed_at, deleted_at""",
    "messages": "project, id, session_id, position, role, type, content, created_at, raw",
}


def tables(version):
    """The columns of each table of *version*, from the third to the fifth."""
    found = dict(FIFTH)
    if version < 5:
        found["sync_projects"] = found["sync_projects"].replace("server TEXT, ", "")
        found["sync_sessions"] = found["sync_sessions"].replace("row_digest TEXT,", "")
        del found["sync_waiting"]
    if version < 4:
        for name in ("messages", "sync_gone"):
            found[name] = found[name].replace("(project, session_id, id)", "(project, id)")
    return found


VIEWS = ("conversation", "session_stats")


async def forgetless(place, in_file):
    """Make the archive at *place* one of the seventh version."""
    steps = [f"DROP VIEW {name}" for name in VIEWS]
    steps += ["DROP TABLE sync_forgotten", "DROP INDEX sessions_by_id"]
    steps += ["PRAGMA user_version = 7" if in_file else "UPDATE sync_schema SET version = 7"]
    for each in steps:
        await asked(place, each)


async def downgrade(place, version):
    """Make the archive at *place* one of the third to the fifth version, or of the seventh."""
    in_file = isinstance(place, Path)
    words = (
        {"text": "TEXT", "word": "", "int": "INTEGER", "flag": "INTEGER NOT NULL DEFAULT 0", "first": ""}
        if in_file
        else {
            "text": 'TEXT COLLATE "C"',
            "word": "TEXT",
            "int": "BIGINT",
            "first": " NULLS FIRST",
            "flag": "BOOLEAN NOT NULL DEFAULT FALSE",
        }
    )
    if version == 7:
        await forgetless(place, in_file)
        return
    columns = {**COPIED}
    if version == 5:
        columns["sync_projects"] += ", server"
        columns["sync_sessions"] += ", row_digest"
        columns["sync_waiting"] = "project, session_id, start_time, gone_at"
    steps = [f"DROP VIEW {name}" for name in VIEWS]
    steps += [
        f"DROP INDEX {name}" for name in (*INDEXES, "messages_by_change", "sync_by_change", "sessions_by_id")
    ]
    steps += [f"ALTER TABLE {name} RENAME TO new_{name}" for name in (*COPIED, "sync_waiting")]
    steps += [f"CREATE TABLE {name} ({of})" for name, of in tables(version).items()]
    steps += [f"CREATE INDEX {name} ON {of}" for name, of in INDEXES.items()]
    steps += [f"INSERT INTO {name} ({of}) SELECT {of} FROM new_{name}" for name, of in columns.items()]
    steps += [
        f"""INSERT INTO sync_gone ({COPIED["messages"]}, gone_at)
        SELECT {COPIED["messages"]}, replaced_at FROM message_history WHERE reason = 'deleted'"""
    ]
    steps += [f"DROP TABLE new_{name}" for name in (*COPIED, "sync_waiting")]
    steps += [
        f"DROP TABLE {name}"
        for name in (
            "message_history",
            "sync_moves",
            "sync_archive",
            "sync_consumers",
            "sync_epochs",
            "sync_forgotten",
        )
    ]
    if version < 4:
        steps += ["CREATE INDEX messages_in_order ON messages (project, session_id, position)"]
    if version == 5:
        steps += ["CREATE INDEX sync_undigested ON sync_sessions (project) WHERE row_digest IS NULL"]
    steps += [
        f"PRAGMA user_version = {version}" if in_file else f"UPDATE sync_schema SET version = {version}"
    ]
    for each in steps:
        await asked(place, each.format(**words))
