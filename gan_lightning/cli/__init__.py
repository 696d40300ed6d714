"""The command line's `fit`, `validate`, `test`, `predict` and `measure`."""
