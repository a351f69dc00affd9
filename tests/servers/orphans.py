"""A worker that leaves COUNT orphans behind, each of which tells FILE of its end once PID 1 is its parent."""

import os
import signal
import socket
import sys
import time

count, path = int(sys.argv[1]), sys.argv[2]
told = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def orphan(number):
    while os.getppid() != 1:
        time.sleep(0.001)
    os.write(told, b"x")
    if number % 3 == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(number % 100)


for number in range(count):
    parent = os.fork()
    if parent == 0:
        if os.fork() == 0:
            orphan(number)
        os._exit(0)
    os.waitpid(parent, 0)

address = os.environ["NOTIFY_SOCKET"]
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
    manager.connect("\0" + address[1:] if address[0] == "@" else address)
    manager.send(b"READY=1")
while True:
    signal.pause()
