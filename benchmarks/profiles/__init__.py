"""Programs that measure aiospinach alone; each can be run by itself, and prints one line of JSON."""
