"""Its release, at once or line by line."""

import time
from pathlib import Path

from flask import Flask, Response

app = Flask(__name__)
release = Path("VERSION").read_text().strip()


@app.get("/info")
def info():
    return release


@app.get("/slow")
def slow():
    def lines():
        for _ in range(15):
            yield f"{release}\n"
            time.sleep(0.2)

    return Response(lines(), mimetype="text/plain")
