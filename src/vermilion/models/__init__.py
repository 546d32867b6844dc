"""One room per model family, with the same file names in every room."""
