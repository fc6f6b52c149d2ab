"""Every run compiles afresh: a cache left by an earlier one could hide a stale kernel."""

import atexit
import os
import shutil
import tempfile

_cache = tempfile.mkdtemp(prefix="fastsoftmax-tests-")
atexit.register(shutil.rmtree, _cache, ignore_errors=True)
os.environ["NUMBA_CACHE_DIR"] = _cache  # for this process and those that tests start
