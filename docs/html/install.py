"""Teach the environment's Jupyter to keep alt text: its own HTML pages of notebooks leave it out.

python docs/html/install.py           into this Python's environment; `make` does it
python docs/html/install.py FOLDER    or below another folder
"""

import shutil
import sys
from pathlib import Path

HERE, PREFIX = Path(__file__).resolve().parent, Path(sys.argv[1] if len(sys.argv) > 1 else sys.prefix)

shutil.copytree(HERE / "lesson", PREFIX / "share/jupyter/nbconvert/templates/lesson", dirs_exist_ok=True)
(PREFIX / "etc/jupyter").mkdir(parents=True, exist_ok=True)
shutil.copy(HERE / "jupyter_config.json", PREFIX / "etc/jupyter")
