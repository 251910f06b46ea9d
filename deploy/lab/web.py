"""The responder's web server: web.py ADDRESS PORT DIRECTORY. Like `python3 -m http.server`, which however asks the
domain name system for its own name first, and there is none in a namespace.
"""

import functools
import http.server
import socket
import socketserver
import sys


class Server(socketserver.ThreadingTCPServer):
    """Many connections at a time; the port is free again at once."""

    allow_reuse_address = True
    address_family = socket.AF_INET
    daemon_threads = True


if __name__ == "__main__":
    address, port, directory = sys.argv[1:]
    if ":" in address:
        Server.address_family = socket.AF_INET6
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=directory)
    Server((address, int(port)), handler).serve_forever()
