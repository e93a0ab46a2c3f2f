"""Archives to look at."""

from navtalk_async import NavTalkClient, sync
from navtalk_async.archive import Archive
from navtalk_async.sandbox import Sandbox, World


async def synced(place, box=None, **options):
    """*place*, with an archive of what *box* has, or of 60 sessions."""
    if box is None:
        async with Sandbox(World(60, messages=4)) as made_up:
            return await synced(place, made_up, **options)
    async with NavTalkClient("k", base_url=box.navtalk_url) as client, Archive.open(place) as archive:
        await sync(client, archive, **options)
    return place
