"""Clients of a sandbox's NavTalk, and answers for them."""

from navtalk_async import NavTalkClient, Retry

ONCE = Retry(attempts=1, attempts_at_first=1)
QUICK = Retry(base_seconds=0.001, cap_seconds=0.01)
MEBIBYTE = 1 << 20
EMPTY = b'{"code":200,"message":"SUCCESS","data":{"data":[],"nextCursor":null}}'


def client(box, key="key", **options):
    return NavTalkClient(key, base_url=box.navtalk_url, **{"retry": QUICK} | options)


async def rows(listing):
    return [row async for row in listing]
