"""The flight recorder: all of a session in one file, and the session again from that file.

    format.py      entries as bytes, and back; whatever is cut off or damaged
    values.py      what a session is told and answers, as JSON and back
    recorder.py    a session's recording while it goes on; the folder, and how much it may hold
    replay.py      a session again, from what the models and the other processes said then
    live.py        the same with the real models: a program of its own, and who talks to it
    comparison.py  where two runs differ
    command.py     `whisperfusion replay`

docs/operating.md describes the file.
"""
