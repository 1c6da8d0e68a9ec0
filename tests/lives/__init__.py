"""Random lives of an optimizer: made, trained, changed, saved, loaded, trained on.

`python -m tests.lives --seed N --count M` draws M of them, and
`python -m tests.lives --life "model=nested optimizer=Adam save=keras"` lives one.

Each life is lived twice: once without an interruption, and once with what was saved in its
middle loaded elsewhere. Both must end alike, bit for bit, and where the algorithm has an oracle
(tests/oracles.py) the first one must end where a float64 run in NumPy ends.

life.py       what a life is, and the line of text that says it
space.py      what may be drawn, and what Keras itself cannot
settings.py   optimizers, their variants, options, schedules and wrappers
models.py     models, data, and what happens to a model between two trainings
training.py   `fit`, `train_on_batch` and loops, with callbacks
files.py      every way to save and to load
reference.py  the same life in float64
story.py      the order of events
compare.py    what must be equal at the end
run.py        many lives, one child process for all that are loaded in another process
shrink.py     the shortest line that still fails
"""
