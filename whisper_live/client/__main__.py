"""`python -m whisper_live.client`."""

import sys

from whisper_live.client.terminal import main

sys.exit(main())
