"""``python -m recbole_ssm``."""

import sys

from recbole_ssm.cli.main import main

sys.exit(main())
