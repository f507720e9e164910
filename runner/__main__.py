"""``python -m runner``. A spawned worker imports nothing of it: :mod:`runner.cli.main` works."""

import sys

if __name__ == "__main__":
    try:
        from runner.cli.main import main

        main()
    except KeyboardInterrupt:  # before there was anything to keep
        sys.exit(130)
