"""A real HTTP server on loopback that answers like OpenAI's chat API, or misbehaves."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any]], str | bytes | int]


class ChatServer:
    """``answer`` gets the request and returns the content, a whole body, or a status."""

    def __init__(self, answer: Answer, url: str) -> None:
        self.answer, self.url = answer, url
        self.requests: list[dict[str, Any]] = []
        self.headers: list[str] = []

    def texts(self) -> list[str]:
        """The user's first message of each request, without images."""
        return [_text(request["messages"][1]["content"]) for request in self.requests]


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", "") for part in content)


@contextmanager
def serving(
    answer: Answer, *, seconds: float = 0.0, is_silent: bool = False
) -> Iterator[ChatServer]:
    """Serve on a free port of loopback.

    ``seconds``: between two bytes of an answer. ``is_silent``: answer nothing before the end.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.requests.append(request)
            server.headers.append(str(self.headers))
            if is_silent:
                stop.wait()
                return
            found = server.answer(request)
            if isinstance(found, int):
                self.send_error(found, "secret-of-the-server")
                return
            if isinstance(found, str):
                message = {"role": "assistant", "content": found}
                found = json.dumps({"choices": [{"message": message}]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(found)))
            self.end_headers()
            try:
                for byte in [found[i : i + 1] for i in range(len(found))] if seconds else [found]:
                    self.wfile.write(byte)
                    self.wfile.flush()
                    if seconds and stop.wait(seconds):
                        return
            except OSError:
                pass  # the client has had enough

        def log_message(self, *_: object) -> None:
            pass

    stop = threading.Event()
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = ChatServer(answer, f"http://127.0.0.1:{http.server_port}/v1")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        stop.set()
        http.shutdown()
        thread.join()
        http.server_close()


def sensible(proposed: list[str], revised: list[str]) -> Answer:
    """Proposes, revises and summarises as it was asked."""

    def answer(request: dict[str, Any]) -> str:
        text = _text(request["messages"][1]["content"])
        units = [int(u) for u in re.findall(r'"unit": (\d+), "phrases": \{', text)]
        if text.startswith("Propose"):
            return json.dumps({"phrases": proposed})
        if "write one sentence" in text:
            said = [{"unit": u, "sentence": f"It responds to thing {u}."} for u in units]
            return f"Here it is:\n```json\n{json.dumps({'units': said})}\n```"
        return json.dumps({"units": [{"unit": u, "phrases": revised} for u in units]})

    return answer
