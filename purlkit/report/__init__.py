"""A job's report: one HTML file that opens from a disk, needs no network and runs no script."""
