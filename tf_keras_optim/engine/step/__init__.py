"""One call: gradients come in, are summed, examined, and applied."""
