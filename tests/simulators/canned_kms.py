"""A KMS endpoint that answers whatever it was told to: what a hostile or broken one could say."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def canned_kms(public_key: bytes, signature: bytes) -> Iterator[str]:
    """Serve one answer to GetPublicKey and one to Sign; yields the endpoint's URL."""
    answers = {
        "TrentService.GetPublicKey": {"PublicKey": base64.b64encode(public_key).decode()},
        "TrentService.Sign": {"Signature": base64.b64encode(signature).decode()},
    }

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps(answers[self.headers["X-Amz-Target"]]).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
