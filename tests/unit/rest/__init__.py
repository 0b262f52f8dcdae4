"""Of the REST facade."""
