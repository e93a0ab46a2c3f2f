"""Ask only for what is new, and keep it. A first run is a sync that never ran."""

from navtalk_async.archive.records import RunReport
from navtalk_async.ingest.progress import Progress
from navtalk_async.ingest.run import OVERLAP, SETTLE, sync
from navtalk_async.ingest.scope import Scope
from navtalk_async.ingest.worker import RoundDone, RoundFailed, Worker

__all__ = [
    "OVERLAP",
    "SETTLE",
    "Progress",
    "RoundDone",
    "RoundFailed",
    "RunReport",
    "Scope",
    "Worker",
    "sync",
]
