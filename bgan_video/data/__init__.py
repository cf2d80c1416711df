"""Layouts → manifest → splits → labels → frames → views → streams."""
