"""A cell in, its rows out: the worker, the session, the locks."""
