"""What the command writes arrives whole, whatever kind of pipe it is written to."""

import fcntl
import os
import subprocess
import sys


def test_nothing_is_lost_where_a_pipe_does_not_wait_for_its_reader():
    command = [
        sys.executable,
        "-m",
        "navtalk_async.cli",
        "sessions",
        "--sandbox",
        "--json",
        "--progress",
        "none",
    ]
    whole = subprocess.run(command, capture_output=True, check=True).stdout
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, False)
    with subprocess.Popen(command, stdout=writer) as process:
        os.close(writer)
        with os.fdopen(reader, "rb") as stream:
            assert stream.read() == whole
        assert process.wait() == 0
