"""The course's exercises: one module per notebook, and `check`, which a notebook calls."""

from diffusion_explained.exercises.grading import Grade, check, exercises, grade

__all__ = ["Grade", "check", "exercises", "grade"]
