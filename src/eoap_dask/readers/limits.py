"""Limits on the files that a worker process reads at once."""

from __future__ import annotations

READS = 8
"""Hides some 30 ms of latency behind decoding on two cores."""
MOST_READS = 32
