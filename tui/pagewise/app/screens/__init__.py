"""The screens: the chat, and the sheets that open over it."""
