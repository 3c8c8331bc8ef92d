"""Stands in for PyAudio, which needs PortAudio's headers to install and a sound card to be of use.

It has no devices. WhisperLive's client copes with that, as on a machine without a microphone;
nothing that goes over the wire passes through here.
"""

from typing import NoReturn

paInt16 = 8  # noqa: N816  # the library's name


class PyAudio:
    def open(self, **options: object) -> NoReturn:
        raise OSError("this machine has no sound card")
