"""What happened during a test, and the pages that show it."""
