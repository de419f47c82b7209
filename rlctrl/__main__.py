"""`python -m rlctrl` is `rlctrl`."""

import sys

from rlctrl.cli import main

sys.exit(main())
