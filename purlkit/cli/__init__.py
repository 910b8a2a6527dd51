"""`purl`: the command line over the service. A command imports what it needs when it runs: help comes at once."""
