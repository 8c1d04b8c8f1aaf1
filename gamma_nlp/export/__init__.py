"""A policy's decision in the settings of other engines, checked before it is shown."""

from gamma_nlp.export.exported import Export, export

__all__ = ["Export", "export"]
