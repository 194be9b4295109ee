"""`python -m ld3m_plugin` is the `ld3m` command."""

import os
import signal

before = signal.getsignal(signal.SIGINT)
if before is signal.default_int_handler:  # Ctrl-C while the command line is imported: `main` does the same for the rest
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
from ld3m_plugin.cli import main  # noqa: E402

signal.signal(signal.SIGINT, before)
main()
