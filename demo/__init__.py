"""The demo: the whole of it runs on this machine, and what it shows really happened."""
