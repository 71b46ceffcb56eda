"""The end of a process whose threads may hang."""

import os
import sys
import threading


def exit_despite_threads(code: int) -> int:
    """Ends the process at once if a thread is still inside a native library, or in a blocking read.

    Such a thread would crash the interpreter while it shuts down.

    Returns:
        The exit code, if there is no such thread.
    """
    if threading.active_count() > 1:
        import logging

        logging.shutdown()
        sys.stdout.flush()
        os._exit(code)
    return code
