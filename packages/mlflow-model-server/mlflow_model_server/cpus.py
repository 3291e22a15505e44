"""Number of CPUs that this container may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def available(cgroups: Path = CGROUPS) -> int:
    """CPUs that this process may run on, or that its quota is worth, rounded up."""
    allowed = len(os.sched_getaffinity(0))
    quota = _quota(cgroups)
    return max(1, min(allowed, math.ceil(quota))) if quota else allowed


def _quota(cgroups: Path) -> float | None:
    """CPU time per time, by cgroup v2 or v1; None where it isn't limited."""
    try:
        granted, period = (cgroups / "cpu.max").read_text().split()
    except FileNotFoundError:
        try:
            granted = (cgroups / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (cgroups / "cpu" / "cpu.cfs_period_us").read_text()
        except FileNotFoundError:
            return None
    if granted == "max" or int(granted) <= 0:
        return None
    return int(granted) / int(period)
