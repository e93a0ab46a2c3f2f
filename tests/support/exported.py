"""What the sandbox's world looks like in the files of an export."""

import json


def z(text):
    return None if text is None else text.replace(" ", "T") + "Z"


def session_of(row, **others):
    return {
        "id": row["id"],
        "api": "navtalk",
        "status": ["active", "completed", "failed"][row["status"]],
        "start_time": z(row["startTime"]),
        "end_time": z(row["endTime"]),
        "updated_at": None,
        "title": None,
        "user_id": None,
        "video_url": row["videoUrl"],
        **others,
    }


def messages_of(world, session_id, role=None):
    rows = [each for each in world.messages(session_id) if role in (None, each["role"])]
    return [
        {
            "id": row["id"],
            "position": position,
            "role": ["user", "assistant"][row["role"]],
            "type": row["messageType"],
            "content": row["content"],
            "created_at": z(row["createdAt"]),
        }
        for position, row in enumerate(rows)
    ]


def truth(world, sessions=None, role=None):
    """What *world* looks like in transcripts.jsonl."""
    return [
        session_of(row, project="default", deleted_at=None, messages=messages_of(world, row["id"], role))
        for row in (world.sessions if sessions is None else sessions)
    ]


def written(folder):
    return [json.loads(line) for line in (folder / "transcripts.jsonl").read_bytes().splitlines()]


def longest(world):
    return max((row["id"] for row in world.sessions), key=lambda each: len(world.messages(each)))
