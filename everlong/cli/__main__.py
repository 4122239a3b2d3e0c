"""``python -m everlong.cli``."""

import sys

from everlong.cli.program import main

sys.exit(main())
