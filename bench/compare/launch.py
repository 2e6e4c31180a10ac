"""Runs a command on the first THREADS processors that it may use and writes its peak memory, in KiB, to a file.

    python -I -S launch.py THREADS FILE COMMAND...

A process of its own, and small, because the kernel counts what a process held before exec in its peak: started
from the comparison itself, with numpy and matplotlib in it, every small search would seem to need 60 MB.
"""

import os
import sys


def main() -> None:
    threads, file, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    child = os.fork()
    if child == 0:
        try:
            os.execvp(command[0], command)
        except OSError as error:
            os.write(2, f"{command[0]}: {error.strerror}\n".encode())
            os._exit(127)
    _, status, usage = os.wait4(child, 0)
    with open(file, "w") as out:
        out.write(str(usage.ru_maxrss))
    os._exit(os.waitstatus_to_exitcode(status) & 255)


if __name__ == "__main__":
    main()
