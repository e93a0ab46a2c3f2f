"""Whether what was kept and handed on is whole: judged by itself, by checksums and by the API."""

from navtalk_async.verify.repair import is_repairable, repair, write_again
from navtalk_async.verify.report import Checked, Cure, Finding, Report
from navtalk_async.verify.verify import verify_export, verify_remote, verify_store

__all__ = [
    "Checked",
    "Cure",
    "Finding",
    "Report",
    "is_repairable",
    "repair",
    "verify_export",
    "verify_remote",
    "verify_store",
    "write_again",
]
