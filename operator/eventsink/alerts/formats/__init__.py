"""Source formats: what each source posts, read into one model."""
