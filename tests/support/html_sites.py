"""Archives of pages made of transcripts that no API sent."""

from navtalk_async.formats._format import FormatOptions, Target
from navtalk_async.formats.html._site import SiteWriter


def a_message(position, content, role="user", created_at="2025-11-12T18:20:38Z", **more):
    at = {"id": f"m{position}", "position": position, "role": role, "type": "text", "content": content}
    return {**at, "created_at": created_at, **more}


def a_transcript(own_id, texts=(), **fields):
    """A session's columns with its messages: of *texts*, by a user and an assistant in turn."""
    messages = [
        each if isinstance(each, dict) else a_message(at, each, ("user", "assistant")[at % 2])
        for at, each in enumerate(texts)
    ]
    return {
        "project": "default",
        "id": own_id,
        "api": "navtalk",
        "status": "completed",
        "start_time": "2025-11-12T18:20:38Z",
        "end_time": "2025-11-12T18:25:00Z",
        "updated_at": None,
        "title": None,
        "user_id": None,
        "video_url": None,
        "deleted_at": None,
        "messages": messages,
        **fields,
    }


def write_site(folder, transcripts):
    """Write the pages of *transcripts* into *folder*; returns the names of its files."""
    target = Target(folder, "", FormatOptions(), lambda _name: None)
    with SiteWriter(target, "html/") as site:
        site.add(list(transcripts))
        site.finish()
    return {each.name: each for each in target.written}
