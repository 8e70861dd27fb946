"""``python -m emlc`` is ``emlc``: what ``torchrun`` starts."""

import sys

from emlc.cli import main

sys.exit(main())
