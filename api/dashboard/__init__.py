"""The dashboard: pages that the server draws; a script only puts the parts of a newer page in place of older ones."""
