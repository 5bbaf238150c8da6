"""``python -m mosaic3d_core.cli`` is the ``mosaic3d`` command."""

import sys

from mosaic3d_core.cli import main

sys.exit(main())
