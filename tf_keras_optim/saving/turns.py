"""One thread at a time writes a model: Keras changes the model while it writes or traces it."""

import threading

TURN = threading.RLock()
