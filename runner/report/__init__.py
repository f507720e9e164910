"""What a reader opens after a run. It reads rows only, and never imports torch."""
