"""Runs the code that it finds in its environment, so that a test shows what its process does."""

import os

exec(os.environ["CODE"])
