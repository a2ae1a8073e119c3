"""A script: runs a module as `__main__`, with exactly the import paths that it is given.

    python -I python_process_starter.py PATHS MODULE [ARGUMENT ...]

PATHS is a JSON list. Python runs this file by its place, so that nothing is searched for before
the paths are set.
"""

import json
import runpy
import sys

if __name__ == "__main__":
    sys.path[:] = json.loads(sys.argv[1])
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
