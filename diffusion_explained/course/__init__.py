"""The course for a class: editions of its notebooks from one source, and grades of the notebooks that come back."""
