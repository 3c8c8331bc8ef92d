"""Wyoming: transcription and voice for Home Assistant and whatever else speaks its protocol."""
