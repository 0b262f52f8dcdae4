"""The throw-away destination type in the REST API, its document and at the command line, from one line."""
