"""The shortest line that still fails."""

import dataclasses

from tests.lives import run, space


def shrink(life, peer=False):
    """Puts field after field to its plainest value as long as the life still fails.

    Returns:
      outcome: that of the shortest life that was found.
    """
    outcome = run.live_one(life, peer)
    if not outcome.differences:
        return outcome
    tried = set()
    changed = True
    while changed:
        changed = False
        for simpler in _simpler(outcome.life):
            if simpler in tried or space.reasons_against(simpler):
                continue
            tried.add(simpler)
            found = run.live_one(simpler, peer)
            if found.differences:
                outcome, changed = found, True
                break
    return outcome


def _simpler(life):
    for option in life.options:
        kept = tuple(o for o in life.options if o != option)
        yield dataclasses.replace(life, options=kept)
    for field in dataclasses.fields(life):
        if getattr(life, field.name) != field.default:
            yield dataclasses.replace(life, **{field.name: field.default})
    for i, count in enumerate(life.epochs):
        if count > 1:
            fewer = tuple(1 if j == i else n for j, n in enumerate(life.epochs))
            yield dataclasses.replace(life, epochs=fewer)
