"""`python -m septum.cli`: the command line without an installed script."""

import sys

from septum.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
