"""The worlds of the APIs' reference pages: the rows that each of them shows."""

from navtalk_async.sandbox import World

NAVTALK_SESSION = "709b712f-dede-11f0-92bc-000e1eed4a72"
NAVTALK_SESSIONS = {
    NAVTALK_SESSION: ("2025-11-12 18:20:38", "2025-11-12 18:20:50"),
    "709c1924-dede-11f0-92bc-000e1eed4a72": ("2025-11-12 23:17:42", "2025-11-12 23:17:48"),
    "709c19a1-dede-11f0-92bc-000e1eed4a72": ("2025-11-14 07:44:42", "2025-11-14 07:45:07"),
}
NAVTALK_MESSAGES = {
    "70c27233-dede-11f0-92bc-000e1eed4a72": ("2025-11-12 18:20:43", 0, "zaiganma"),
    "70c27301-dede-11f0-92bc-000e1eed4a72": (
        "2025-11-12 18:20:45",
        1,
        (
            "It sounds like you're trying to convey something-could you clarify or share a bit more "
            "about what you need help with? I'm here to help."
        ),
    ),
    "70c273da-dede-11f0-92bc-000e1eed4a72": ("2025-11-12 18:20:45", 0, "Thank You For Watching"),
}
LEXICON_CHAT = "chat-a1b2c3d4-e5f6-4a7b-8c9d-0e1f2a3b4c5d"
LEXICON_MESSAGES = {
    "msg-a1b2c3d4-e5f6-4a7b-8c9d-0e1f2a3b4c5d": (
        "2024-01-15 10:30:00",
        "Hello, I need help with my account",
        {"user_agent": "Mozilla/5.0..."},
    ),
    "msg-b2c3d4e5-f6a7-4b8c-9d0e-1f2a3b4c5d6e": (
        "2024-01-15 10:30:05",
        "I'd be happy to help you with your account! What specific issue are you experiencing?",
        {"model": "gpt-4", "tokens_used": 87},
    ),
    "msg-c3d4e5f6-a7b8-4c9d-0e1f-2a3b4c5d6e7f": (
        "2024-01-15 10:30:30",
        "I can't log into my account. It says my password is incorrect.",
        {},
    ),
    "msg-d4e5f6a7-b8c9-4d0e-1f2a-3b4c5d6e7f8a": (
        "2024-01-15 10:30:35",
        (
            "I understand you're having trouble logging in. Let me help you troubleshoot this issue. "
            "First, let's try resetting your password."
        ),
        {"model": "gpt-4", "tokens_used": 124},
    ),
}


def navtalk_world():
    """Three sessions, and the three messages of the first."""
    world = World(sessions=0)
    for session_id, (start, end) in NAVTALK_SESSIONS.items():
        world.add_session(start, id=session_id, end_time=end)
    for message_id, (time, role, content) in NAVTALK_MESSAGES.items():
        world.add_message(NAVTALK_SESSION, content, id=message_id, role=role, created_at=time)
    return world


def kodey_world():
    """One chat in which every text is ``string``, and its one message."""
    world = World(sessions=0)
    world.add_session("2024-01-15 10:30:00", id="string")
    world.note("string", user="string", agent="string", team="string")
    world.add_message("string", "string", id="string", role=1)
    return world


def lexicon_world():
    """One chat of ``user-0``, and its four messages."""
    world = World(sessions=0)
    world.add_session("2024-01-15 10:30:00", id=LEXICON_CHAT)
    world.note(LEXICON_CHAT, user="user-0")
    for number, (message_id, (time, content, metadata)) in enumerate(LEXICON_MESSAGES.items()):
        world.add_message(LEXICON_CHAT, content, id=message_id, role=number % 2, created_at=time)
        world.note(message_id, metadata=metadata)
    return world
