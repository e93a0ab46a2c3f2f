"""Whether what was kept and handed on is whole: judged by itself, by what vouches for it, and by the API."""

from navtalk_async.verify.report import Checked, Cure, Finding, Report
from navtalk_async.verify.verify import verify_export, verify_remote, verify_store

__all__ = ["Checked", "Cure", "Finding", "Report", "verify_export", "verify_remote", "verify_store"]
