"""The row of that API, and all that the laws need."""

from apis import APIS, Api, columns_from


async def pages(ask, path):
    found, more = [], {}
    while rows := (await ask(path, count=50, **more))["rows"]:
        found += rows
        more = {"after": rows[-1].get("ref") or rows[-1]["nr"]}
    return found


APIS.append(
    Api(
        name="fifth",
        key_arguments=lambda key: {"headers": {"X-Fifth": key}},
        sessions=lambda ask: pages(ask, "/v5/talks"),
        messages=lambda ask, name: pages(ask, f"/v5/talks/{name}/lines"),
        session_columns=columns_from({"id": "ref", "start_time": "opened", "title": "subject"}),
        message_columns=columns_from({"id": "nr", "role": "who", "content": "text", "created_at": "at"}),
        answers={"errors": ("bare",), "max_page": (None, 3)},
    )
)
