"""Answers of NavTalk, as its reference shows them, and what its dialect reads out of answers."""

import json

import pytest

from navtalk_async.dialects.navtalk import NavTalk
from navtalk_async.models import Response

NAVTALK = NavTalk()
ID = "709b712f-dede-11f0-92bc-000e1eed4a72"

# The reference's own answers.
SESSIONS_ANSWER = b"""{
  "code": 200,
  "message": "SUCCESS",
  "data": {
    "data": [
      {
        "id": "709b712f-dede-11f0-92bc-000e1eed4a72",
        "status": 1,
        "startTime": "2025-11-12 18:20:38",
        "endTime": "2025-11-12 18:20:50",
        "videoUrl": null
      },
      {
        "id": "709c1924-dede-11f0-92bc-000e1eed4a72",
        "status": 1,
        "startTime": "2025-11-12 23:17:42",
        "endTime": "2025-11-12 23:17:48",
        "videoUrl": null
      }
    ],
    "nextCursor": "MjAyNS0xMS0xNFQwNzo0NDo0Mnw3MDljMTlhMS1kZWRlLTExZjAtOTJiYy0wMDBlMWVlZDRhNzI="
  }
}"""
SESSION_ANSWER = b"""{
  "code": 200,
  "message": "SUCCESS",
  "data": {
    "id": "709b712f-dede-11f0-92bc-000e1eed4a72",
    "status": 1,
    "startTime": "2025-11-12 18:20:38",
    "endTime": "2025-11-12 18:20:50",
    "videoUrl": null
  }
}"""
MESSAGES_ANSWER = b"""{
  "code": 200,
  "message": "SUCCESS",
  "data": {
    "data": [
      {
        "id": "70c27233-dede-11f0-92bc-000e1eed4a72",
        "role": 0,
        "messageType": 0,
        "content": "zaiganma",
        "createdAt": "2025-11-12 18:20:43"
      },
      {
        "id": "70c27301-dede-11f0-92bc-000e1eed4a72",
        "role": 1,
        "messageType": 0,
        "content": "It sounds like you're trying to convey something.",
        "createdAt": "2025-11-12 18:20:45"
      }
    ],
    "nextCursor": "MjAyNS0xMS0xMlQxODoyMDo0NXw3MGMyNzNkYS1kZWRlLTExZjAtOTJiYy0wMDBlMWVlZDRhNzI="
  }
}"""
CURSOR = "MjAyNS0xMS0xNFQwNzo0NDo0Mnw3MDljMTlhMS1kZWRlLTExZjAtOTJiYy0wMDBlMWVlZDRhNzI="
MESSAGE = json.loads(MESSAGES_ANSWER)["data"]["data"][0]
SESSION = json.loads(SESSION_ANSWER)["data"]


def answer(body, status=200, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status=status, headers=headers, body=body)


def enveloped(data, code=200):
    return {"code": code, "message": "SUCCESS", "data": data}


def sessions(body, status=200, **headers):
    return NAVTALK.read_sessions(NAVTALK.list_sessions(), answer(body, status, **headers))


def session(body, status=200):
    return NAVTALK.read_session(NAVTALK.get_session(ID), answer(body, status))


def messages(body, status=200):
    return NAVTALK.read_messages(NAVTALK.list_messages(ID), answer(body, status))


def page_of(*rows, cursor=None):
    return enveloped({"data": list(rows), "nextCursor": cursor})


READERS = pytest.mark.parametrize("read", [sessions, session, messages])
