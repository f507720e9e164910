"""``report.html``: one file that works from disk."""
