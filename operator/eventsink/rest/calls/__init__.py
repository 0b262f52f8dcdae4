"""What the facade does, without HTTP."""
