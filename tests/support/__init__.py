"""Helpers that several test files share: `from support.tools import requires_tool`."""
