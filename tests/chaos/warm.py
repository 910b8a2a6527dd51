"""Imported once by the process whose forks the service's processes are: what each would otherwise do for itself."""

from sqlalchemy.orm import configure_mappers

import services.tables  # noqa: F401

configure_mappers()
