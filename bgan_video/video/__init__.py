"""Exact frames of any video file, and the indices of clips; knows no class, label or setting."""

from bgan_video.video.reader import open_video

__all__ = ["open_video"]
