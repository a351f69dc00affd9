"""The application that uvicorn runs in tests/real_servers.rs. It acks from its lifespan, as uvicorn does not."""

import os
import socket

GENERATION = os.environ.get("EINHORN_GENERATION", "0")


def ready():
    """What sd_notify(3) does, in Python."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.connect("\0" + address[1:] if address[0] == "@" else address)
            notify.sendall(b"READY=1")


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                ready()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = f"generation {GENERATION}, worker {os.getpid()}\n".encode()
    headers = [
        (b"content-type", b"text/plain"),
        (b"content-length", str(len(body)).encode()),
        (b"x-worker", f"{os.getpid()} {GENERATION}".encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
