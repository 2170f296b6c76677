"""28 MNIST models of 2019, as values to train, compare and publish.

Importing the package imports no backend. It only says which one Keras is to use
(`KERAS_BACKEND`, else TensorFlow), so that a `keras.json` cannot change results.
"""

import os

__version__ = "2.0.0"
# The kind of output in which a notebook declares its result.
RESULT_MIME = "application/vnd.mnistlab.result+json"

os.environ.setdefault("KERAS_BACKEND", "tensorflow")


class MnistlabError(Exception):
    """A user's mistake or an interruption, which its sentence explains."""
