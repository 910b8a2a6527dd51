"""What writes parts of the documents: the reference from the code, the figures from a job's files."""
