"""TensorFlow's GraphDefs and SavedModels as graphs.

TensorFlow is imported here, once and quietly, before any module of this folder needs it.
"""

from graphs.importers.tensorflow_models.quiet import without_chatter

with without_chatter():
    import tensorflow  # noqa: F401
