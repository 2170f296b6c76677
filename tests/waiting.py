"""Waiting for what another process does."""

import time


def until(condition, seconds=240):
    """Wait until something is so; it is an error if that takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)
