"""What the explorer's pages share: their frame, the cached runs, and the scrubber."""
