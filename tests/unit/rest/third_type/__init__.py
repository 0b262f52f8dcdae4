"""The throw-away destination type in the REST API, in its OpenAPI document and on the command line, registered with one line."""
