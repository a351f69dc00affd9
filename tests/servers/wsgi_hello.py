"""The application that gunicorn runs in tests/real_servers.rs: it says which worker it is."""

import os

WORKER = os.getpid()
GENERATION = os.environ.get("EINHORN_GENERATION", "0")


def application(environ, start_response):
    body = f"generation {GENERATION}, worker {WORKER}\n".encode()
    start_response(
        "200 OK",
        [
            ("Content-Type", "text/plain"),
            ("Content-Length", str(len(body))),
            ("X-Worker", f"{os.getpid()} {GENERATION}"),
        ],
    )
    return [body]
