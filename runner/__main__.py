"""``python -m runner``. A spawned worker imports nothing of it: :mod:`runner.cli.main` works."""

import os
import sys

if __name__ == "__main__":
    if sys.path[:1] == [os.getcwd()]:  # what lies in this folder is not to stand in for a library
        del sys.path[0]
    try:
        from runner.cli.main import main

        main()
    except KeyboardInterrupt:  # before there was anything to keep
        exec("")  # as runner.cli.main says
        sys.exit(130)
