"""What is written of a session and of a message, in any format."""

from typing import Any

import msgspec

from navtalk_async.archive.rows import MessageRow, SessionRow, StoredTranscript
from navtalk_async.models import Message, Record, Session, beyond_columns

__all__ = ["message_fields", "session_fields", "transcript_fields"]


def transcript_fields(kept: StoredTranscript, kinds: tuple[type[Session], type[Message]]) -> dict[str, Any]:
    """A session's columns and its `messages`; *kinds* are the structs of its API's rows."""
    session_kind, message_kind = kinds
    return {
        **session_fields(kept.session, session_kind),
        "messages": [message_fields(message, message_kind) for message in kept.messages],
    }


def session_fields(row: SessionRow, kind: type[Session]) -> dict[str, Any]:
    """A session's columns, and under `extra` what else the API said of it."""
    return {
        "project": row.project,
        "id": row.id,
        "api": row.api,
        "status": row.status,
        "start_time": row.start_time,
        "end_time": row.end_time,
        "title": row.title,
        "video_url": row.video_url,
        "deleted_at": row.deleted_at,
        **extra(row.raw, kind, row.start_time, row.end_time),
    }


def message_fields(row: MessageRow, kind: type[Message]) -> dict[str, Any]:
    """A message's columns, and under `extra` what else the API said of it."""
    return {
        "id": row.id,
        "position": row.position,
        "role": row.role,
        "type": row.type,
        "content": row.content,
        "created_at": row.created_at,
        **extra(row.raw, kind, row.created_at),
    }


def extra(raw: str, kind: type[Record], *times: str | None) -> dict[str, Any]:
    """What no column holds of *raw*, under `extra`; nothing where there is none. *times* are those that its
    columns hold.
    """
    if None not in times and kind.__struct_config__.forbid_unknown_fields:
        try:
            # Nearly every row is as the reference has it, and this is the fastest way to see that it is.
            msgspec.json.decode(raw, type=kind)
        except msgspec.ValidationError:
            pass
        else:
            return {}
    others = beyond_columns(kind, msgspec.json.decode(raw))
    return {"extra": others} if others else {}
