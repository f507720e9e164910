"""What ``conf/`` may say, checked without torch."""
