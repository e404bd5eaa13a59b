"""Answers to the course's exercises, one module per notebook: right ones, and wrong ones with a word of the hint."""
