"""The HTTP/1.1 server of every listener (intake, admin, REST, monitor): bounded in bytes, number and time, whoever connects."""
