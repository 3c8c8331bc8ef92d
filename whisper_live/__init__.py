"""The transcription server and its Python client."""
