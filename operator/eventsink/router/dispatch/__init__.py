"""Sends what waits: one worker for each sink."""
