"""`python -m ovseg` in the folder that holds this checkout, whose own folder has the package's name there and hides it."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    sys.modules.pop("ovseg", None)
    from ovseg.__main__ import main

    sys.exit(main())
