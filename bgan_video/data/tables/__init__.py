"""The layout `table`: videos, classes, splits and parts of videos that a table names."""

from bgan_video.data.tables.layout import files_named, read, table_files

__all__ = ["files_named", "read", "table_files"]
