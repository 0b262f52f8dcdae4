"""Programs that run in pods, on the Python of the image under test: the standard library only."""
