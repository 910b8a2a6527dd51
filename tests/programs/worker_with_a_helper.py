"""An attempt's process as `workers.run` sets it up, without its work: it keeps its lease, beside a stubborn helper."""

import os
import subprocess
import sys
import time

from workers.link import Link
from workers.run import end_everything

HELPER = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"

link = Link(os.environ["PURL_URL"], os.environ["PURL_ATTEMPT"], os.environ["PURL_TOKEN"], on_fence=end_everything)
link.start()
helper = subprocess.Popen([sys.executable, "-c", HELPER], stdout=subprocess.PIPE, start_new_session=False)
assert helper.stdout is not None
helper.stdout.readline()
print("up", flush=True)
time.sleep(600)
