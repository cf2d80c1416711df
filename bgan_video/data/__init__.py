"""Layouts → manifest → splits → clip indices → frames → views → streams."""
