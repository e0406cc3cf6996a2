"""Runs the command line: ``python -m pyterrier_jacolbert.cli COMMAND``."""

import sys

from pyterrier_jacolbert.cli.parser import main

sys.exit(main())
