"""Starts WhisperFusion from a checkout: see `whisperfusion.py`."""

import sys

import whisperfusion

if __name__ == "__main__":
    sys.exit(whisperfusion.main())
