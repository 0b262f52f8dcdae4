"""The pages that people read when something is wrong say what the program does."""
