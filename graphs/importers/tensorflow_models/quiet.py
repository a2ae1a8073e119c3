"""Keeps TensorFlow's start-up chatter off the terminal; what else is said there stays."""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
#: Lines that TensorFlow's libraries print when they are loaded, before any level counts.
_CHATTER = re.compile(
    rb"^(WARNING: All log messages before absl::InitializeLog"
    rb"|I0000 |W0000 |E0000 .*cuda|\d{4}-\d\d-\d\d .*: [IW] "
    rb"|To enable the following instructions:)"
)


@contextmanager
def without_chatter() -> Iterator[None]:
    """Import TensorFlow in this block, and nothing but real messages reaches stderr.

    TensorFlow logs to the process's stderr before its log level is set up, so the stream is kept
    back for the while and what is no chatter is passed on. Users who set `TF_CPP_MIN_LOG_LEVEL`
    see what TensorFlow makes of it.
    """
    if _LEVEL in os.environ or "tensorflow" in sys.modules:
        yield
        return
    os.environ[_LEVEL] = "2"
    try:
        outside = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(outside, 2)
            os.close(outside)
            kept.seek(0)
            for line in kept:
                if not _CHATTER.match(line):
                    os.write(2, line)
