"""Ask only for what is new, and keep it. A first run is a sync that never ran."""

from navtalk_async.archive.records import RunReport
from navtalk_async.ingest._health import Health
from navtalk_async.ingest._job import Progress
from navtalk_async.ingest._many import Project, ProjectResult, sync_all
from navtalk_async.ingest._reread_rules import OVERLAP, SETTLE, earlier
from navtalk_async.ingest._rounds import RoundResult, Rounds, watch
from navtalk_async.ingest._run import check_key, sync
from navtalk_async.ingest.scope import SyncOptions

__all__ = [
    "OVERLAP",
    "SETTLE",
    "Health",
    "Progress",
    "Project",
    "ProjectResult",
    "RoundResult",
    "Rounds",
    "RunReport",
    "SyncOptions",
    "check_key",
    "earlier",
    "sync",
    "sync_all",
    "watch",
]
