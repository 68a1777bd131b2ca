"""Changing policy text: edits that keep comments, the one layout, patches. Each result is read again and compared."""
