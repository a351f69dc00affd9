"""Stands in for systemd with a descriptor store: starts the command that it is given, keeps what that stores, and starts
it again with what it keeps when a signal has ended it. LOG gets a line of JSON for each datagram and each start.

What it does is what sd_notify(3), sd_pid_notify_with_fds(3) and sd_listen_fds(3) say.
"""

import array
import json
import os
import select
import socket
import sys

LOG = os.environ.pop("LOG")
STORE_MAX = int(os.environ["FDSTORE"])
KEPT = []


def log(**what):
    with open(LOG, "a") as file:
        file.write(json.dumps(what) + "\n")


def start():
    log(started=[name for name, _ in KEPT])
    pid = os.fork()
    if pid:
        return pid
    # Out of the way of where they go.
    high = [os.dup2(fd, 100 + number, inheritable=False) for number, (_, fd) in enumerate(KEPT)]
    for number, fd in enumerate(high):
        os.dup2(fd, 3 + number, inheritable=True)
    os.environ["NOTIFY_SOCKET"] = ADDRESS
    if KEPT:
        os.environ["LISTEN_PID"] = str(os.getpid())
        os.environ["LISTEN_FDS"] = str(len(KEPT))
        os.environ["LISTEN_FDNAMES"] = ":".join(name for name, _ in KEPT)
    os.execvp(sys.argv[1], sys.argv[1:])


def hear():
    text, control, _, _ = MANAGER.recvmsg(4096, socket.CMSG_SPACE(64))
    fds = array.array("i")
    for _, kind, data in control:
        if kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    told = dict(line.split("=", 1) for line in text.decode().splitlines())
    name = told.get("FDNAME", "stored")
    assert name.isascii() and ":" not in name and len(name) <= 255, name
    if told.get("FDSTOREREMOVE") == "1":
        for kept in [kept for kept in KEPT if kept[0] == name]:
            KEPT.remove(kept)
            os.close(kept[1])
    for fd in fds:
        os.set_inheritable(fd, False)
        inode = os.fstat(fd).st_ino
        is_known = any(os.fstat(kept).st_ino == inode for _, kept in KEPT)
        if told.get("FDSTORE") == "1" and not is_known and len(KEPT) < STORE_MAX:
            KEPT.append((name, fd))
        else:
            os.close(fd)
    log(told=told, fds=len(fds), kept=[name for name, _ in KEPT])


ADDRESS = LOG + ".notify"
MANAGER = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
MANAGER.bind(ADDRESS)
while True:
    pid = start()
    watch = os.pidfd_open(pid)
    ended = False
    while not ended:
        ready, _, _ = select.select([MANAGER, watch], [], [])
        if MANAGER in ready:
            hear()
        ended = watch in ready and MANAGER not in ready
    os.close(watch)
    _, status = os.waitpid(pid, 0)
    if os.WIFEXITED(status):
        sys.exit(os.WEXITSTATUS(status))
