"""`python -m retable`."""

import sys

from retable.cli import main

sys.exit(main())
