"""The course's exercises: one module per notebook, `check`, which a notebook calls, and `built` for the labs."""

from diffusion_explained.exercises.grading import Grade, built, check, exercises, grade

__all__ = ["Grade", "built", "check", "exercises", "grade"]
