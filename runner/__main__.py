"""``python -m runner``. The work is in :mod:`runner.app`, so that a spawned worker imports nothing from here."""

if __name__ == "__main__":
    from runner.app import main

    main()
