# PYTHON_ARGCOMPLETE_OK
"""`python -m tfhub_cache`: the command `tfhub-cache`, where no script of that name is found."""

import sys

from tfhub_cache.cli import main

sys.exit(main())
