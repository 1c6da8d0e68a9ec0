"""The demo and the scripts that prepare and test this repository."""
