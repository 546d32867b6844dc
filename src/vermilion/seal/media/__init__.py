"""Pictures, sound and film in memory: decode, change, encode."""
