"""The rows the NavTalk reference page shows, as they stand there."""

from typing import Final

from .table import Row

SESSIONS: Final[tuple[Row, ...]] = (
    {
        "id": "709b712f-dede-11f0-92bc-000e1eed4a72",
        "status": 1,
        "startTime": "2025-11-12 18:20:38",
        "endTime": "2025-11-12 18:20:50",
        "videoUrl": None,
    },
    {
        "id": "709c1924-dede-11f0-92bc-000e1eed4a72",
        "status": 1,
        "startTime": "2025-11-12 23:17:42",
        "endTime": "2025-11-12 23:17:48",
        "videoUrl": None,
    },
    {
        "id": "709c19a1-dede-11f0-92bc-000e1eed4a72",
        "status": 1,
        "startTime": "2025-11-14 07:44:42",
        "endTime": "2025-11-14 07:45:07",
        "videoUrl": None,
    },
)

MESSAGES: Final[tuple[Row, ...]] = (
    {
        "id": "70c27233-dede-11f0-92bc-000e1eed4a72",
        "role": 0,
        "messageType": 0,
        "content": "zaiganma",
        "createdAt": "2025-11-12 18:20:43",
    },
    {
        "id": "70c27301-dede-11f0-92bc-000e1eed4a72",
        "role": 1,
        "messageType": 0,
        "content": "It sounds like you're trying to convey something-could you clarify or share a bit more "
        "about what you need help with? I'm here to help.",
        "createdAt": "2025-11-12 18:20:45",
    },
    {
        "id": "70c273da-dede-11f0-92bc-000e1eed4a72",
        "role": 0,
        "messageType": 0,
        "content": "Thank You For Watching",
        "createdAt": "2025-11-12 18:20:45",
    },
)
