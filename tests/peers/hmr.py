"""What a browser does with a Vite dev server: `hmr.py HOST:PORT TAG DIRECTORY`; edits main.js there and waits for the update."""

import json
import pathlib
import re
import sys
import urllib.request

from websockets.sync.client import connect

at, tag, directory = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
headers = {"X-Ephemwork": tag}


def fetch(path):
    request = urllib.request.Request(f"http://{at}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        served = answer.headers.get("X-Ephemwork-Served-By")
        assert tag == "none" or served == tag, served
        return answer.read().decode()


assert "/@vite/client" in fetch("/"), "not Vite's index"
assert "first" in fetch("/main.js")
token = re.search(r'wsToken = "([^"]+)"', fetch("/@vite/client")).group(1)
with connect(f"ws://{at}/?token={token}", additional_headers=headers, subprotocols=["vite-hmr"], open_timeout=30) as socket:
    assert socket.subprotocol == "vite-hmr", socket.subprotocol
    assert json.loads(socket.recv(timeout=30)) == {"type": "connected"}
    print("connected", flush=True)
    main = directory / "main.js"
    main.write_text(main.read_text().replace("first", "second"))
    while True:
        message = json.loads(socket.recv(timeout=30))
        if message["type"] == "update":
            break
        assert message["type"] in ("ping", "custom"), message
    assert message["updates"][0]["path"] == "/main.js", message
    print("updated", flush=True)
    stamp = message["updates"][0]["timestamp"]
assert "second" in fetch(f"/main.js?t={stamp}")
print("fresh", flush=True)
