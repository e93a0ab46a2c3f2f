"""Whether what was kept and handed on is whole: judged by itself, by checksums and by the API."""

from navtalk_async.verification.repair import is_repairable, repair, write_again
from navtalk_async.verification.report import Checked, Finding, Remedy, Report
from navtalk_async.verification.verify import verify_export, verify_remote, verify_store

__all__ = [
    "Checked",
    "Finding",
    "Remedy",
    "Report",
    "is_repairable",
    "repair",
    "verify_export",
    "verify_remote",
    "verify_store",
    "write_again",
]
