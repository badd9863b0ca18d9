"""The examples in other languages ask what a bundle answers."""

import json
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import serving
from tfdnc.contracts import bundle

EXAMPLES = Path(serving.__file__).parent / "examples"


RULES = ["in_stock=true", "price<=20", "brand!=acme"]
BOUNDS = ["country=local>=2", "brand=acme<=3", "brand=*<=5"]


def needs(program):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


@pytest.fixture
def peer():
    """An HTTP server that keeps what it is sent in `asked`, and answers with `reply`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.server.asked = (self.path, self.headers["Content-Type"], body)
            status, text = self.server.reply
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_):
            """Keeps quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize(
    ("command", "arguments", "histories"),
    [
        pytest.param(["sh", "retrieve.sh"], [], [["2858", "260", "1196"], ["1", "", ""]], marks=needs("curl")),
        pytest.param(["java", "Retrieve.java"], ['a "b"\\', "c"], [['a "b"\\', "c"]], marks=needs("javac")),
        pytest.param(["sh", "filtered.sh"], [], [["2858", "260", "1196"]], marks=needs("curl")),
        pytest.param(["sh", "bounded.sh"], [], [["2858", "260", "1196"]], marks=needs("curl")),
        pytest.param(["java", "Retrieve.java"], ["a", "--where", *RULES], [["a"]], marks=needs("javac")),
        pytest.param(
            ["java", "Retrieve.java"], ["a", "--bounds", *BOUNDS, "--where", *RULES], [["a"]], marks=needs("javac")
        ),
    ],
)
def test_examples(peer, command, arguments, histories):
    def run():
        call = [*command, f"127.0.0.1:{peer.server_port}", *arguments]
        return subprocess.run(call, cwd=EXAMPLES, capture_output=True, text=True)

    peer.reply = (200, '{"predictions": []}')
    assert run().stdout.strip() == '{"predictions": []}'
    path, kind, body = peer.asked
    assert (path, kind) == (f"/v1/models/{bundle.MODEL_NAME}:predict", "application/json")
    assert [instance["history"] for instance in body["instances"]] == histories
    for instance in body["instances"]:
        assert set(instance) == set(bundle.signature(body["signature_name"]).input_names)
        said = {name: [text for text in instance.get(name, ()) if text] for name in ("where", "bounds")}
        assert said["where"] in ([], RULES)  # those of the documents
        assert said["bounds"] in ([], BOUNDS)
        assert bool(said["bounds"]) == (body["signature_name"] == "retrieve_bounded")
        assert bool(said["where"]) == ("--where" in arguments or command == ["sh", "filtered.sh"])
    peer.reply = (503, '{"error": "busy"}')
    refused = run()
    assert refused.returncode
    assert "busy" in refused.stdout + refused.stderr
