"""Run ``emlc`` as ``python -m emlc``, which is what ``torchrun`` starts."""

import sys

from emlc.cli import main

sys.exit(main())
