"""What the three processes share: settings, messages, channels, supervision, models."""
