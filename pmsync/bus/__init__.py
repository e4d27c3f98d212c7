"""The bus: the log of events, one port and its adapters."""
