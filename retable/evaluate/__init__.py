"""Evaluation protocols and representation measures, shared by all papers."""
