"""Names of puzzles, of the modes of a toll, of output kinds and measures, each in one place. This module imports nothing."""

SEALED, REDEEM = MODES = ("sealed", "redeem")

ARGON2ID, SHA256, TIMELOCK = "argon2id", "sha256", "timelock"
HASHCASH, HASHCASH_SHA1 = HASHCASHES = ("hashcash", "hashcash-sha1")  # for redeem mode only
PUZZLES = (ARGON2ID, SHA256, *HASHCASHES, TIMELOCK)  # those of the wire

SCORE_KINDS = ("probabilities", "logits", "labels")  # output kinds with one row of scores per input
EMBEDDINGS, TOKENS = "embeddings", "tokens"  # the other output kinds

# The extra for training. torch's own index has its builds without CUDA, which pip prefers to PyPI's of the same version.
INSTALL_TRAIN = "pip install 'modeltoll[train]' --extra-index-url https://download.pytorch.org/whl/cpu"


def clean_name(measure: str) -> str:
    """The name under which a measure's leaks are recorded where it was fitted to private data without kinds."""
    return f"{measure}:clean"
