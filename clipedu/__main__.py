"""python -m clipedu"""

import sys

from clipedu.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
