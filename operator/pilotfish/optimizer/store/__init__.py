"""Where artifacts live: claims and buckets behind one small interface, who refers to what, and what may go."""
