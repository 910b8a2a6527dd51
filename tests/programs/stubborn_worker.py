"""An attempt's process that says one line, never reports, and leaves a helper that ignores SIGTERM."""

import signal
import subprocess
import sys
import time

HELPER = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"

helper = subprocess.Popen([sys.executable, "-c", HELPER], stdout=subprocess.PIPE)
assert helper.stdout is not None
helper.stdout.readline()
print("the last words of a worker", flush=True)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(600)
