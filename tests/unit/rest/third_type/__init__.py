"""A destination type that exists only here: the REST API, its document and the command line get it from one line."""
