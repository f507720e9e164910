"""``python -m runner``. The work is elsewhere: a spawned worker imports nothing from here."""

import sys

if __name__ == "__main__":
    try:
        from runner.cli.main import main

        main()
    except KeyboardInterrupt:  # before there was anything to keep
        sys.exit(130)
