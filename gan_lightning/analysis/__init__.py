"""The papers' theory as functions that can be evaluated."""
