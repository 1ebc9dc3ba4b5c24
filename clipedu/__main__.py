"""python -m clipedu"""

import sys

from clipedu.cli import main

if __name__ == "__main__":
    sys.exit(main())
