"""Pure arithmetic: formulas, norms, low precision, slots in 8 bits."""
