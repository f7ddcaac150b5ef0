"""A local server that answers chat completions as a test wants it."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = 'sk-very-secret/0123"456789'


def completion(text, ended="stop"):
    return message(ended, content=text)


def message(ended="stop", **fields):
    return 200, {"choices": [{"message": {"role": "assistant", **fields}, "finish_reason": ended}]}


@contextmanager
def server(play, path="/v1", port=0):
    """``play(body, number of the request, headers)`` gives status, answer and headers; yields URL and bodies.

    Status 0 breaks the connection off. A Content-Length that is given stays, right or not.
    """
    bodies, lock = [], threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections stay open, as with real servers
        disable_nagle_algorithm = True  # which would wait 40 ms between head and body

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                bodies.append(body)
                number = len(bodies)
            assert self.path == f"{path}/chat/completions"
            status, answer, *headers = play(body, number, self.headers)
            if not status:
                self.close_connection = True
                return
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            if "Content-Length" not in dict(headers):
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            self.close_connection = "Content-Length" in dict(headers)

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_):  # a client that was killed
            pass

    with Server(("127.0.0.1", port), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_port}{path}", bodies
        finally:
            running.shutdown()
            thread.join()
