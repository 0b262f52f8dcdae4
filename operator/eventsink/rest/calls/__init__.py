"""What the REST API does, without HTTP."""
