"""What the three processes share: settings, messages, channels, supervision, models."""

import os

__version__ = "1.0.0"

# onnxruntime sends Microsoft how it is used unless it is told otherwise before it is first
# imported. Every process imports this package first, and nothing may leave the machine.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
