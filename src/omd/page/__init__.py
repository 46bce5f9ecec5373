"""`omd report`: one self-contained HTML page of a sweep, or of all figures in a folder."""

from omd.page.build import write

__all__ = ["write"]
