"""Exit code 0 when the service in this container says that it is ready: `ready.py PORT`."""

import socket
import sys

TIMEOUT_S = 3.0
REQUEST = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

# Not http.client, whose import takes as long as the rest of this: it runs every few seconds in every container.
try:
    with socket.create_connection(("127.0.0.1", int(sys.argv[1])), TIMEOUT_S) as connection:
        connection.sendall(REQUEST)
        answer = connection.recv(12)
except OSError as error:
    sys.exit(f"not ready: {error}")
sys.exit(0 if answer.startswith(b"HTTP/1.1 200") else f"not ready: {answer.decode(errors='replace')}")
