"""A local page on which a person answers suggestions: what it shows, keeps and starts."""
