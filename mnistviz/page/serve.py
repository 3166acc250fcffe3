"""The app, opened: Streamlit runs `app.py`, for this machine alone unless told otherwise."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from mnistviz.errors import refuse
from mnistviz.page.reading import MEGABYTES

SETTINGS = {
    "server.maxUploadSize": MEGABYTES,
    "server.showEmailPrompt": "false",
    "server.fileWatcherType": "none",
    "browser.gatherUsageStats": "false",  # nothing is sent anywhere
    "client.toolbarMode": "minimal",
    "theme.light.primaryColor": "#0067a5",
    "theme.dark.primaryColor": "#5cb8f0",
}


def serve(address: str = "localhost", port: int = 8501) -> int:
    """`serve(port=8600)` runs until it is interrupted; `address="0.0.0.0"` lets the whole network in."""
    refuse(find_spec("streamlit") is None, "the app needs streamlit", fix='python -m pip install "mnistviz[app]"')
    settings = SETTINGS | {"server.address": address, "server.port": port}
    options = [f"--{name}={value}" for name, value in settings.items()]
    script = Path(__file__).with_name("app.py")
    return subprocess.run([sys.executable, "-m", "streamlit", "run", str(script), *options], check=False).returncode
