"""Whether what was kept and exported is whole: by itself, by checksums and by the API."""

from navtalk_async.verification._report import Checked, Finding, Remedy, Report, some
from navtalk_async.verification._verify import REPAIR_ROUNDS, verify

__all__ = ["REPAIR_ROUNDS", "Checked", "Finding", "Remedy", "Report", "some", "verify"]
