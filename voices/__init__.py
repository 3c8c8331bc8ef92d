"""Voices: reply text in, speech out."""
