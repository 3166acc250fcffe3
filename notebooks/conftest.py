"""Under pytest the notebooks run in their quick profile, unless $MNISTVIZ_PROFILE says otherwise."""

import os

os.environ.setdefault("MNISTVIZ_PROFILE", "quick")
