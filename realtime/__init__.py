"""OpenAI's Realtime protocol: its sessions, items and responses, without I/O.

`session.RealtimeSession` takes what a client sends and what the pipeline does, and returns events
for the client and actions for the pipeline. Facts of the protocol: openai-python 3.57.0's types.
"""
