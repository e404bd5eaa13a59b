"""What the explorer's pages share: their frame, the runs that are kept, and the scrubber."""
