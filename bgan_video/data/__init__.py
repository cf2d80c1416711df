"""Layouts → manifest → splits → clip indices → frames → views → streams."""

from bgan_video.data.decode import open_video

__all__ = ["open_video"]
