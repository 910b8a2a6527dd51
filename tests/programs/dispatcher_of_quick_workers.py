"""`python -m services.dispatcher`, but for what it starts: attempts that are over in a second."""

import functools
import sys

from services import dispatcher

dispatcher.Dispatcher = functools.partial(dispatcher.Dispatcher, worker="tests.programs.quick_worker")  # type: ignore
sys.exit(dispatcher.main([]))
