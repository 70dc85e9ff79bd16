"""The real jammi-ai 0.32.0 engine, in a virtual environment and a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from support.venvs import CACHE, find_python

REQUIREMENT = "jammi-ai==0.32.0"
_CHECK = "import importlib.metadata as m, jammi_ai; print(m.version('jammi-ai'))"
_SERVE = """
import json, sys
import jammi_ai

def answer(work):
    try:
        value = work()
    except RuntimeError as error:
        reply = {"error": str(error)}
    else:
        reply = {"value": value.to_pylist() if hasattr(value, "to_pylist") else value}
    print(json.dumps(reply), flush=True)

def start():
    global db
    db = jammi_ai.Database(jammi_ai.open_local(artifact_dir=sys.argv[1], gpu_device=-1))

answer(start)
for line in sys.stdin:
    method, args, kwargs = json.loads(line)
    answer(lambda: getattr(db, method)(*args, **kwargs))
"""


class EngineError(Exception):
    """The engine refused; the text is its own."""


class Engine:
    """One process of the engine over one artifact directory; a context manager.

    Call it with the name of a method of its ``Database`` and the arguments.
    """

    def __init__(self, python, directory):
        self._process = subprocess.Popen(
            [python, "-c", _SERVE, directory], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self):
        try:
            self._reply()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._process.communicate()

    def __call__(self, method, *args, **kwargs):
        self._process.stdin.write(json.dumps([method, args, kwargs]).encode() + b"\n")
        self._process.stdin.flush()
        return self._reply()

    def _reply(self):
        line = self._process.stdout.readline()
        if not line:
            raise EngineError("the engine has died")
        reply = json.loads(line)
        if "error" in reply:
            raise EngineError(reply["error"])
        return reply["value"]


def find_engine():
    """Return the Python that has the engine, made on first use; the reason if it cannot be made.

    ``$JAMMI_UPSTREAM_VENV`` says where, else a cache directory of the user.
    """
    given = os.environ.get("JAMMI_UPSTREAM_VENV")
    home = Path(given) if given else CACHE / REQUIREMENT.replace("==", "-")
    return find_python(home, [REQUIREMENT], _has_engine)


def _has_engine(python):
    if not python.exists():
        return False
    found = subprocess.run([python, "-c", _CHECK], capture_output=True, text=True, check=False)
    return found.stdout.strip() == REQUIREMENT.partition("==")[2]
